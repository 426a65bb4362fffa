import sys

from ctctl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
