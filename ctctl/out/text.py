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


def shell_word(word: str) -> str:
    """``word`` as any POSIX shell takes it, on one line and safe to print: ``"$(printf 'a\\012b')"`` where need be."""
    import shlex

    if not _UNSAFE.search(word):
        return shlex.quote(word)
    return f"\"$(printf '{''.join(map(_printf_text, word))}')\""


def _printf_text(one: str) -> str:
    if one == "%":
        return "%%"
    if one not in "'\\" and not _UNSAFE.match(one):
        return one
    code = ord(one)
    data = bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else one.encode("utf-8", "surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in data)
