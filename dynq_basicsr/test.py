"""``python -m dynq_basicsr.test -opt FILE.yml``: BasicSR's tester with our plugin, below the current directory."""

import sys

from dynq_basicsr import cli

if __name__ == '__main__':
    sys.exit(cli.main('basicsr.test', 'test_pipeline'))
