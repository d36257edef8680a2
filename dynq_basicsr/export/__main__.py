"""``python -m dynq_basicsr.export``: the same as ``dynq export``."""

import sys

from dynq_basicsr.cli import main

if __name__ == '__main__':
    sys.exit(main(['export', *sys.argv[1:]]))
