"""What the command line offers to choose from; imports nothing, so that its help needs nothing."""

FORMATS = ('png', 'jpg', 'webp', 'same')  # of results; same: as the input
RUNTIMES = ('onnxruntime', 'openvino')
