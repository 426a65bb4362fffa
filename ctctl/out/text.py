"""Text that is safe to print: nothing from outside reaches the terminal as a control sequence."""

from __future__ import annotations

import re

# C0, DEL and C1 controls; line and paragraph separators; bidirectional overrides and isolates
# (they reorder what an operator reads); lone surrogates (bytes that were not UTF-8).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def safe(text: str) -> str:
    """``text`` with control characters as ``\\x1b``-style escapes; ordinary text comes back as it is."""
    # What can be printed has none of these; to ask that takes a tenth of looking for them.
    return text if text.isprintable() else _UNSAFE.sub(_escape, text)
