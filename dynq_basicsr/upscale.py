"""``python -m dynq_basicsr.upscale --model model_dir/ input... --output dir/``: upscale images with a frozen network.

Runs what ``python -m dynq_basicsr.export`` wrote, on the CPU. Needs NumPy, OpenCV, tqdm and ONNX Runtime (or OpenVINO),
neither torch nor BasicSR. Exit codes: 0; 1 where images failed; 2 after an error that the user can mend; 130 when
interrupted.
"""

import sys

from dynq_basicsr.deploy.command import main

if __name__ == '__main__':
    sys.exit(main())
