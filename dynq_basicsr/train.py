"""``python -m dynq_basicsr.train -opt FILE.yml``: the same as ``dynq train``."""

import sys

from dynq_basicsr.cli import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
