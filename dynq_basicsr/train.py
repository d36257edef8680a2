"""``python -m dynq_basicsr.train -opt FILE.yml``: BasicSR's trainer with our plugin, below the current directory."""

import sys

from dynq_basicsr import cli

if __name__ == '__main__':
    sys.exit(cli.main('basicsr.train', 'train_pipeline'))
