"""`python -m guie`: the command `guie`."""

import sys

from guie.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
