"""``python -m perseus``: the command line, started in the usual way."""

import sys

from perseus.cli.fast import start

if __name__ == "__main__":
    start(sys.argv[1:])
