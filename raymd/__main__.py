"""`python -m raymd VERB`: the same as the command `raymd VERB`."""

import sys

from raymd.cli import main

if __name__ == "__main__":
    sys.exit(main())
