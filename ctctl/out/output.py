"""One way out for everything that is a list: table, wide, cilium, json, jsonl, yaml, csv, name.

A command says once what its rows are (a ``View``); this module does fields, sorting, limits and
the formats. jsonl, json, yaml, csv, cilium and name are written as the rows come, so their memory
does not grow with the table; table and wide need all rows to know their widths.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Any, TextIO, TypeVar

from ctctl.errors import UsageError
from ctctl.out.cells import cell, csv_cell, jsonable
from ctctl.out.fit import PROSE_LEAST, Layout, columns_of, fitting, least_of, say_dropped
from ctctl.out.options import Format, OutputOptions, use_color
from ctctl.out.text import safe
from ctctl.out.view import Column, View, text_of, texts_of

T = TypeVar("T")


def _sort_key(column: Column[T]) -> Callable[[T], tuple[int, Any]]:
    def key(row: T) -> tuple[int, Any]:
        value = column.value(row)
        if isinstance(value, IPv4Address | IPv6Address):
            return (value.version, int(value))
        if isinstance(value, bool | int | float):
            return (0, value)
        return (9, cell(value))

    return key


def arrange(view: View[T], rows: Iterable[T], options: OutputOptions) -> Iterable[T]:
    """Rows sorted and limited as asked; rows without the sort field come last either way."""
    if options.sort is None:
        return rows if options.limit is None else islice(rows, options.limit)
    column = view.column(options.sort.removeprefix("-"), "sort field")
    key, descending = _sort_key(column), options.sort.startswith("-")
    absent: list[T] = []

    def present() -> Iterator[T]:
        for row in rows:
            if column.value(row) is None:
                absent.append(row)
            else:
                yield row

    if options.limit is None:
        ordered = sorted(present(), key=key, reverse=descending)
        return [*ordered, *absent]
    pick = heapq.nlargest if descending else heapq.nsmallest
    ordered = pick(options.limit, present(), key=key)
    return [*ordered, *absent][: options.limit]


def write_rows(
    view: View[T],
    rows: Iterable[T],
    options: OutputOptions,
    stream: TextIO,
    *,
    meta: Mapping[str, object] | None = None,
) -> int:
    """Write ``rows`` in the format asked for; returns how many. ``meta`` goes beside the list in json and yaml.

    Raises UsageError for an unknown field or a format these rows do not have.
    """
    chosen = [view.column(name) for name in options.fields]
    rows = arrange(view, rows, options)
    if options.format in (Format.table, Format.wide):
        if options.follow:
            columns = chosen or [c for c in view.columns if options.format is Format.wide or not c.wide]
            return _write_following(columns, rows, options, stream)
        return _write_table(view, rows, options, stream)
    if options.format is Format.csv:
        return _write_csv(chosen or [*view.columns], rows, options, stream)
    if options.format is Format.cilium:
        if view.cilium_lines is not None:
            listed = list(rows)
            _write_lines(view.cilium_lines(listed), options, stream)
            return len(listed)
        if view.cilium is None:
            raise UsageError(f"{view.plural} have no cilium form; use -o table, wide, json, jsonl, yaml, csv or name")
        return _write_lines(map(view.cilium, rows), options, stream)
    if options.format is Format.name:
        return _write_lines((safe(view.name(row)) for row in rows), options, stream)
    records = (_record(view, chosen, row) for row in rows)
    if options.format is Format.jsonl:
        schema = {"schema": view.schema}
        return _write_lines((json.dumps({**schema, **record}) for record in records), options, stream)
    write = _write_json if options.format is Format.json else _write_yaml
    return write({"schema": view.schema, **jsonable(meta or {})}, view.plural, records, stream)


def write_document(schema: str, document: Mapping[str, object], options: OutputOptions, stream: TextIO) -> None:
    """Write one object that is no list as json, jsonl (one line) or yaml."""
    whole = {"schema": schema, **jsonable(document)}
    if options.format is Format.yaml:
        import yaml  # 20 ms that other formats need not pay

        yaml.safe_dump(whole, stream, sort_keys=False, allow_unicode=False)
    elif options.format in (Format.json, Format.jsonl):
        stream.write(json.dumps(whole, indent=2 if options.format is Format.json else None) + "\n")
    else:
        raise UsageError(f"-o {options.format.value} has no form for this; use table, json, jsonl or yaml")


def _record(view: View[T], chosen: Sequence[Column[T]], row: T) -> dict[str, Any]:
    if chosen:
        return {column.name: jsonable(column.value(row)) for column in chosen}
    if view.record is not None:
        return {name: jsonable(value) for name, value in view.record(row).items()}
    return {column.name: jsonable(column.value(row)) for column in view.columns}


def _write_lines(lines: Iterable[str], options: OutputOptions, stream: TextIO) -> int:
    count = 0
    for line in lines:
        stream.write(line + "\n")
        count += 1
        if options.follow:
            stream.flush()
    return count


def _write_json(head: dict[str, Any], plural: str, records: Iterable[dict[str, Any]], stream: TextIO) -> int:
    opening = json.dumps(head)[:-1]
    stream.write(f"{opening}, {json.dumps(plural)}: [")
    count = 0
    for record in records:
        stream.write((",\n  " if count else "\n  ") + json.dumps(record))
        count += 1
    stream.write("\n]}\n" if count else "]}\n")
    return count


def _write_yaml(head: dict[str, Any], plural: str, records: Iterable[dict[str, Any]], stream: TextIO) -> int:
    import yaml  # 20 ms that other formats need not pay

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    yaml.dump(head, stream, Dumper=dumper, sort_keys=False)
    count = 0
    for record in records:
        if not count:
            stream.write(f"{plural}:\n")
        yaml.dump([record], stream, Dumper=dumper, sort_keys=False, width=2**30)
        count += 1
    if not count:
        stream.write(f"{plural}: []\n")
    return count


def _write_csv(columns: Sequence[Column[T]], rows: Iterable[T], options: OutputOptions, stream: TextIO) -> int:
    import csv

    writer = csv.writer(stream, lineterminator="\n")
    if not options.no_headers:
        writer.writerow([csv_cell(column.name) for column in columns])  # of a query: whatever it says
    count = 0
    for row in rows:
        writer.writerow([csv_cell(column.value(row)) for column in columns])
        count += 1
        if options.follow:
            stream.flush()
    return count


def _write_following(columns: Sequence[Column[T]], rows: Iterable[T], options: OutputOptions, stream: TextIO) -> int:
    """A table whose rows come over time: fixed widths, a line as soon as it is known."""
    widths = [max(column.width, len(column.title)) for column in columns]
    room = columns_of(stream) if options.format is Format.table else None
    if room is not None and not options.fields:
        kept = fitting(widths, [column.priority for column in columns], room)
        say_dropped([column.title for at, column in enumerate(columns) if at not in kept], room, stream)
        columns, widths = [columns[at] for at in kept], [widths[at] for at in kept]
    right = [column.right for column in columns]
    if not options.no_headers:
        _write_plain(Layout.of(widths, right, widths, room), [column.title for column in columns], stream)
        stream.flush()
    count = 0
    for row in rows:
        texts = [text_of(column, row) for column in columns]
        needed = [max(width, len(text)) for width, text in zip(widths, texts, strict=True)]
        least = [min(width, PROSE_LEAST) if c.prose else width for c, width in zip(columns, needed, strict=True)]
        _write_plain(Layout.of(needed, right, least, room), texts, stream)
        stream.flush()
        count += 1
    return count


def _write_table(view: View[T], rows: Iterable[T], options: OutputOptions, stream: TextIO) -> int:
    rows = list(rows)
    columns = [view.column(name) for name in options.fields]
    columns = columns or [c for c in view.columns if options.format is Format.wide or not c.wide]
    # Who asks for wide lines gets them.
    room = columns_of(stream) if options.format is Format.table else None
    pieces: dict[object, list[T]] = {}
    apart = view.apart if room is not None and options.sort is None else None
    for row in rows:
        pieces.setdefault(apart(row) if apart is not None else None, []).append(row)
    dropped: dict[str, None] = {}
    for number, piece in enumerate(pieces.values() or [rows]):
        if number and not options.no_headers:
            stream.write("\n")
        dropped |= dict.fromkeys(_write_piece(columns, piece, options, room, stream))
    if room is not None and rows:
        say_dropped(list(dropped), room, stream)
    return len(rows)


def _write_piece(
    columns: Sequence[Column[T]],
    rows: list[T],
    options: OutputOptions,
    room: int | None,
    stream: TextIO,
    *,
    may_drop: bool = True,
) -> list[str]:
    """Rows that share their columns' widths; returns the titles that had no room."""
    heads = [] if options.no_headers else [[column.title] for column in columns]
    texts = [
        [*head, *texts_of(column, rows)] for head, column in zip(heads or [[]] * len(columns), columns, strict=True)
    ]
    widths = [max(map(len, some), default=0) for some in texts]
    least = [
        least_of(some[len(head) :], width) if column.prose and room is not None else width
        for column, some, width, head in zip(columns, texts, widths, heads or [[]] * len(columns), strict=True)
    ]
    dropped: list[str] = []
    may_drop = may_drop and not options.fields
    if room is not None and may_drop:
        kept = fitting(least, [column.priority for column in columns], room)
        dropped = [column.title for at, column in enumerate(columns) if at not in kept]
        columns, texts = [columns[at] for at in kept], [texts[at] for at in kept]
        widths, least = ([some[at] for at in kept] for some in (widths, least))
    layout = Layout.of(widths, [column.right for column in columns], least, room)
    if may_drop and not layout.in_one_line(widths) and any(column.short for column in columns):
        shorter = [replace(column, text=column.short or column.text, short=None) for column in columns]
        return dropped + _write_piece(shorter, rows, options, room, stream, may_drop=False)
    if use_color(options, stream):
        _write_colored(columns, rows, list(zip(*texts, strict=True)), layout, stream)
    elif layout.in_one_line(widths):
        stream.write("".join(f"{line.rstrip()}\n" for line in layout.padded(texts)))
    else:
        for line in zip(*texts, strict=True):
            _write_plain(layout, line, stream)
    return dropped


def _write_plain(layout: Layout, texts: Sequence[str], stream: TextIO) -> None:
    for line in layout.lines(texts):
        stream.write("".join(text for _, text in line).rstrip() + "\n")


def _write_colored(
    columns: Sequence[Column[T]],
    rows: Sequence[T],
    lines: Sequence[Sequence[str]],
    layout: Layout,
    stream: TextIO,
) -> None:
    """``lines`` are the rows' texts, after the header if there is one."""
    from rich.console import Console  # 60 ms, only for colour
    from rich.text import Text

    styles = [[column.style(row) if column.style else "" for column in columns] for row in rows]
    heads = len(lines) - len(rows)
    console = Console(file=stream, force_terminal=True, width=2**15, highlight=False)
    for texts, of_row in zip(lines, [*[["bold"] * len(columns)] * heads, *styles], strict=True):
        for line in layout.lines(texts):
            shown = Text()
            for at, text in line:
                shown.append(text, of_row[at])
            shown.rstrip()
            console.print(shown, soft_wrap=True)
