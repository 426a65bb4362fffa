"""A sequence diagram as Mermaid text, for tickets and documents that draw it."""

from __future__ import annotations

from ctctl.out.text import safe
from ctctl.trace.sequence import Diagram, Message, Remark

#: Characters that Mermaid takes for syntax, as its own entity codes.
_CODES = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;", "&": "#amp;", '"': "#quot;", "%": "#37;"}


def _text(text: str) -> str:
    return "".join(_CODES.get(char, char) for char in safe(text))


def _head(diagram: Diagram, name: str) -> list[str]:
    known = diagram.names.get(name)
    return [known, name] if known else [name]


def mermaid(diagram: Diagram) -> str:
    """The diagram's text, newline at the end."""
    names = {name: f"p{number}" for number, name in enumerate(diagram.lifelines)}
    lines = ["sequenceDiagram", f"    title {_text(diagram.title)}"]
    lines += [
        f"    participant {short} as {'<br/>'.join(_text(part) for part in _head(diagram, name))}"
        for name, short in names.items()
    ]
    for item in diagram.items:
        if isinstance(item, Remark):
            if names:
                short = list(names.values())
                over = short[0] if len(short) == 1 else f"{short[0]},{short[-1]}"
                lines.append(f"    Note over {over}: {_text(item.text)}")
            continue
        when = f"{item.when}  " if item.when else ""
        for part in item.items:
            if isinstance(part, Message):
                arrow = "-x" if part.dropped else "->>"
                lines.append(f"    {names[part.source]}{arrow}{names[part.target]}: {_text(when + part.text)}")
                when = ""
            else:
                body = "<br/>".join(_text(line) for line in (part.title, *part.lines))
                lines.append(f"    Note over {names[part.over]}: {body}")
    return "\n".join(lines) + "\n"
