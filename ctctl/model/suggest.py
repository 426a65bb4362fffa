"""The nearest right name for a wrong one, said the same way everywhere."""

from __future__ import annotations

from collections.abc import Iterable

#: Names that a sentence lists: pods and nodes may be thousands.
MOST = 30


#: How like each other words are: a name of something seen, a word of the command line.
NAME_LIKE, WORD_LIKE = 0.5, 0.6


def nearest(name: str, names: Iterable[str], like: float = NAME_LIKE, *, starts: bool = True) -> str | None:
    """The name most like ``name``, or None where nothing comes near; ``starts``: one that starts alike is near too."""
    import difflib  # only wanted on the way to an error

    folded = {candidate.casefold(): candidate for candidate in names}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=like)
    if found:
        return folded[found[0]]
    alike = [candidate for key, candidate in folded.items() if name and key.startswith(name.casefold()[:3])]
    return min(alike, key=len) if alike and starts else None


def unknown_name(kind: str, name: str, names: Iterable[str]) -> str:
    """The sentence for an unknown name: what is wrong, the nearest right one, else all there are, if any."""
    known = list(dict.fromkeys(names))
    close = nearest(name, known)
    if close is not None:
        return f"unknown {kind} {name!r}; did you mean {close!r}?"
    rest = f" and {len(known) - MOST} more" if len(known) > MOST else ""
    return f"unknown {kind} {name!r}; {'one of: ' + ', '.join(known[:MOST]) + rest if known else 'none is known here'}"
