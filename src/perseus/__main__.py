"""``python -m perseus``: the command line, started in the usual way."""

import sys

from perseus.cli.fast import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
