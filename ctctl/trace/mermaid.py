"""A sequence diagram as Mermaid text, for tickets and documents that draw it."""

from __future__ import annotations

from ctctl.out.text import safe
from ctctl.trace.sequence import Diagram, Message

#: Characters that Mermaid takes for syntax, as its own entity codes.
_CODES = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;", "&": "#amp;", '"': "#quot;", "%": "#37;"}


def _text(text: str) -> str:
    return "".join(_CODES.get(char, char) for char in safe(text))


def mermaid(diagram: Diagram) -> str:
    """The diagram's text, newline at the end."""
    names = {name: f"p{number}" for number, name in enumerate(diagram.lifelines)}
    lines = ["sequenceDiagram", f"    title {_text(diagram.title)}"]
    lines += [f"    participant {short} as {_text(name)}" for name, short in names.items()]
    for item in diagram.items:
        if isinstance(item, Message):
            arrow = "-x" if item.dropped else "->>"
            lines.append(f"    {names[item.source]}{arrow}{names[item.target]}: {_text(item.text)}")
        else:
            body = "<br/>".join(_text(line) for line in (item.title, *item.lines))
            lines.append(f"    Note over {names[item.over]}: {body}")
    return "\n".join(lines) + "\n"
