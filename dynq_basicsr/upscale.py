"""``python -m dynq_basicsr.upscale INPUT... --model MODEL_DIR --output FOLDER``: the same as ``dynq upscale``.

Runs what ``dynq export`` wrote, on the CPU. Needs the extra ``deploy``, neither torch nor BasicSR. Exit codes: 0; 1
where images failed; 2 after an error that the user can mend; 130 when interrupted.
"""

import sys

from dynq_basicsr.cli import main

if __name__ == '__main__':
    sys.exit(main(['upscale', *sys.argv[1:]]))
