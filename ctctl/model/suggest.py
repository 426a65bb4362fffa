"""The nearest right name for a wrong one, said the same way everywhere."""

from __future__ import annotations

from collections.abc import Iterable

#: Names that a sentence lists: pods and nodes may be thousands.
MOST = 30


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like ``name``, or None where nothing comes near."""
    import difflib  # only wanted on the way to an error

    folded = {candidate.casefold(): candidate for candidate in names}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    if found:
        return folded[found[0]]
    starts = [candidate for key, candidate in folded.items() if name and key.startswith(name.casefold()[:3])]
    return min(starts, key=len) if starts else None


def unknown_name(kind: str, name: str, names: Iterable[str]) -> str:
    """The sentence for an unknown name: what is wrong, the nearest right one, else all there are, if any."""
    known = list(dict.fromkeys(names))
    close = nearest(name, known)
    if close is not None:
        return f"unknown {kind} {name!r}; did you mean {close!r}?"
    rest = f" and {len(known) - MOST} more" if len(known) > MOST else ""
    return f"unknown {kind} {name!r}; {'one of: ' + ', '.join(known[:MOST]) + rest if known else 'none is known here'}"
