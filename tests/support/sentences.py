"""The sentences of a module, listed from its source: what is yielded, returned, raised, put together or kept."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

#: Letters that make it a sentence: less is punctuation, or a unit.
_LETTERS = 5


def templates(module: ModuleType) -> list[str]:
    """Every sentence of the module as a pattern, each alternative by itself, in the order of its lines."""
    assert module.__file__ is not None
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        for value in _said(node):
            found |= dict.fromkeys(_patterns(value))
    return list(found)


def _said(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Yield | ast.Return):
        return [] if node.value is None else [node.value]
    if isinstance(node, ast.Raise):
        return list(node.exc.args) if isinstance(node.exc, ast.Call) else []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
        return node.args
    if isinstance(node, ast.AnnAssign | ast.Assign):
        if isinstance(node.value, ast.Dict):
            return [one for one in node.value.values if isinstance(one, ast.Constant | ast.JoinedStr)]
        if isinstance(node.value, ast.Tuple):
            return [one for part in node.value.elts for one in (part.elts if isinstance(part, ast.Tuple) else [part])]
        if isinstance(node.value, ast.JoinedStr | ast.IfExp):
            return [node.value]
    return []


def _patterns(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.IfExp():
            parts = [value.body, value.orelse]
        case ast.BoolOp():
            parts = value.values
        case ast.BinOp():
            parts = [value.left, value.right]
        case ast.Call():
            parts = value.args
        case ast.List():
            parts = value.elts
        case ast.Tuple():
            # A piece of a line: the second one is its style.
            parts = value.elts[:1]
        case ast.JoinedStr():
            parts = []
            text = "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".*" for p in value.values)
            if _is_sentence(text.replace(".*", "")):
                yield text
        case ast.Constant(value=str(words)):
            parts = []
            if _is_sentence(words):
                yield re.escape(words)
        case _:
            parts = []
    for part in parts:
        yield from _patterns(part)


def _is_sentence(words: str) -> bool:
    return len(re.sub(r"[^a-z]", "", words, flags=re.IGNORECASE)) >= _LETTERS
