"""``python -m dynq_basicsr``: the same as the command ``dynq``."""

import sys

from dynq_basicsr.cli import main

if __name__ == '__main__':
    sys.exit(main())
