"""What the command line knows of model folders; imports nothing, so that its help needs nothing."""

FORMATS = ('png', 'jpg', 'webp', 'same')  # of results; same: as the input
RUNTIMES = ('onnxruntime', 'openvino')
MANIFEST = 'manifest.json'  # of a model folder
CHECKPOINT = 'quantized.pth'  # in a folder of `dynq quantize`
