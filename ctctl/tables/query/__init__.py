"""The filter language of every command that selects entries (docs/reference/cli.md): one parser, three ways to run it.

``parse_filter`` and ``FilterFlags.filter`` make a ``Filter``; bound to a table (``TableContext``) it
becomes a ``Predicate`` over slots, which runs on numpy columns, on one entry, or, as a jump program,
in the kernel.
"""

from ctctl.tables.query.bind import TableContext
from ctctl.tables.query.filter import EVERYTHING, Filter, FilterFlags
from ctctl.tables.query.parse import FIELD_NAMES, parse_filter

__all__ = ["EVERYTHING", "FIELD_NAMES", "Filter", "FilterFlags", "TableContext", "parse_filter"]
