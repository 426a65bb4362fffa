"""How this program starts itself once more, as a process of its own."""

from __future__ import annotations

import json
import sys
from typing import Final

#: Finds the package where this process found it: installed, in a folder of a package's own, or in one executable file.
_START: Final = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from {} import main; sys.exit(main())"


def own_command(module: str, *words: str) -> list[str]:
    """What to run for ``main`` of a module of ours with these words, by the Python and the ctctl of this process."""
    return [sys.executable, "-I", "-c", _START.format(module), json.dumps(sys.path), *words]
