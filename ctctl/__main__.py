import sys

from ctctl.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
