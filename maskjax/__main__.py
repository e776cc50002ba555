"""`python -m maskjax` is the `maskjax` command."""

import sys

from maskjax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
