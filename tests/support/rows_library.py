"""A pytest plugin that puts another build of the row formatter in the package's place (``make native-asan``)."""

from __future__ import annotations

import os
from pathlib import Path

from ctctl._ffi import rows

rows.LIBRARY = Path(os.environ["ROWS_LIBRARY"]).absolute()
