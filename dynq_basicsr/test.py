"""``python -m dynq_basicsr.test -opt FILE.yml``: the same as ``dynq test``."""

import sys

from dynq_basicsr.cli import main

if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))
