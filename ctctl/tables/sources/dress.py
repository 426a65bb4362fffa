"""What terminals, pages and people put around and into text, and the text without it."""

from __future__ import annotations

import re

#: What a terminal is told: colours and places, titles of windows, sets of characters.
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]{0,16}[ -/]{0,2}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")
#: What cannot be seen, and other blanks than the usual one: pages and chats put them in.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
#: A page's own marks around and in text, and the names of characters in it.
_TAGS = re.compile(r"</?(?:pre|code|details|summary|p|div|span|br|li|blockquote|t[dr]|table|tbody)\b[^<>]{0,100}>")
_ENTITIES = (("&gt;", ">"), ("&lt;", "<"), ("&quot;", '"'), ("&#39;", "'"), ("&nbsp;", " "), ("&amp;", "&"))
#: What a mail, a page or a chat has in front of a line of somebody else's, and in front of any line.
QUOTE = re.compile(r"[ \t]*(?:[>|│][ \t]?)+")
_QUOTES = re.compile(f"^{QUOTE.pattern}", re.MULTILINE)
#: Arrows and strokes as editors and chats make them of the two characters that a program writes.
_ARROWS = re.compile("[\u2192\u27f6]|[\u2010-\u2015\u2212]>")
_DOUBLE_ARROWS = re.compile("[\u21d2\u27f9]")
_STROKES = re.compile("[\u2010\u2011]")
#: Quote marks as editors and chats make them of those that programs write; lines of a document that start with one.
_CURLY, _CURLY_SINGLE = re.compile(r"[\u201c-\u201f\u2033\uff02]"), re.compile(r"[\u2018-\u201b\u2032]")
_CURLY_START = re.compile(r"^[\[{ \t]*[\u201c-\u201f\u2033\uff02]", re.MULTILINE)
#: What Markdown is told to leave as it is: no JSON has these behind a stroke.
_ESCAPED = re.compile(r"\\([\[\]_*<>#|~(){}+\-])")
#: The first character of a terminal's colours as programs show it, and colours that have lost theirs. The pattern
#: starts with one character, so that a line without is passed over at once.
_SHOWN_ESC = ("^[[", "\u241b[")
_BARE_COLOURS = re.compile(r"\[(?:\d{1,3}(?:;\d{1,3}){0,4}m(?:\[K)?|m\[K)")
#: What people put around a line.
MARKS = ("`", '"')


def unwrapped(line: str) -> str:
    """A line without the marks that stand around it: code of a page, a string of a list, a quotation of several."""
    if line[0] == "`":
        return line if line.startswith("```") else line.strip("`")
    text = line.rstrip(", ")
    if line[0] == '"' and len(text) > 1 and text.endswith('"') and '"' not in text[1:-1]:
        return text[1:-1]
    return line.removeprefix('"').removesuffix('"') if line.count('"') == 1 else line


def as_printed(text: str) -> str:
    """A line as its program wrote it: without colours, in usual blanks and arrows, without Markdown's strokes."""
    coloured = "[" in text
    if coloured:
        for shown in _SHOWN_ESC:
            text = text.replace(shown, "\x1b[")
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if not text.isascii():
        text = _SPACES.sub(" ", _INVISIBLE.sub("", text))
        text = _STROKES.sub("-", _DOUBLE_ARROWS.sub("=>", _ARROWS.sub("->", text)))
        text = _straightened(text)
    if "&" in text or "<" in text:
        text = without_marks(text)
    if "\\" in text:
        text = _ESCAPED.sub(r"\1", text)
    return _BARE_COLOURS.sub("", text) if coloured else text


def _straightened(text: str) -> str:
    """Text with the quote marks that programs write; where it has such, others are part of what it says."""
    return _CURLY_SINGLE.sub("'", text if '"' in text else _CURLY.sub('"', text))


def without_marks(text: str) -> str:
    """Text of a page as it is shown: without its tags, with the characters that its names stand for."""
    text = _TAGS.sub("", text) if "<" in text else text
    if "&" in text:
        for name, char in _ENTITIES:
            text = text.replace(name, char)
    return text


def without_quotes(text: str) -> str:
    """Text without the quote marks of its lines."""
    return _QUOTES.sub("", text)


#: What no JSON has outside of its strings: a terminal's colours, other blanks.
_DRESSED = re.compile("\x1b\\[|[\u00a0\u200b\u202f]")


def is_dressed(text: str) -> bool:
    """Whether lines have colours, blanks or quote marks in them that are no part of a document."""
    return _DRESSED.search(text) is not None or _CURLY_START.search(text) is not None


def without_dress(text: str) -> str:
    """Text as its document has it."""
    text = _SPACES.sub(" ", _INVISIBLE.sub("", _TERMINAL.sub("", text)))
    return "\n".join(map(_straightened, text.split("\n"))) if _CURLY.search(text) else text
