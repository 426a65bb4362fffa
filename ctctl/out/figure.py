"""Line charts as SVG and PNG, drawn by matplotlib, an optional dependency imported when a picture is asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ctctl.errors import MissingLibraryError
from ctctl.model.units import format_duration
from ctctl.out.plot import Chart
from ctctl.out.text import safe

#: Told apart by people who see all colours, and by those who do not (Okabe and Ito's, without the yellow that
#: cannot be seen on white). No chart has more lines.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")

_INCHES, _DPI = (9.0, 2.4), 120
_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
_LONGEST_NAME = 40
_STYLE = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.fontsize": 9,
    # Text stays text in SVG: it can be searched and read aloud. Names are no formulas.
    "svg.fonttype": "none",
    "svg.hashsalt": "ctctl",
    "text.parse_math": False,
}
#: What is drawn in these, and the same where the reader's page is dark; the other colours can be seen on both.
DARK = {"#ffffff": "#0d1117", "#000000": "#e6edf3", "#dddddd": "#30363d"}
#: matplotlib writes colours beside what they colour, which only an important rule outdoes. Text in black has none.
_DARK_RULES = "".join(
    f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
    for light, dark in DARK.items()
    for what in ("fill", "stroke")
)
_DARK_STYLE = f"@media(prefers-color-scheme:dark){{text{{fill:{DARK['#000000']}!important}}{_DARK_RULES}}}"


def require_matplotlib() -> None:
    """Raise MissingLibraryError without it: asked before the work whose charts are to be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingLibraryError("charts in files need matplotlib", "plot")


def svg(charts: Sequence[Chart]) -> bytes:
    """Charts one below the other as an SVG document, light or dark as its reader's pages are.

    Raises UnsupportedError without matplotlib.
    """
    drawn = _drawn(charts, "svg", metadata={"Date": None, "Creator": None})
    return drawn.replace(b"</style>", _DARK_STYLE.encode() + b"</style>", 1)


def png(charts: Sequence[Chart]) -> bytes:
    """Charts one below the other as a PNG image. Raises UnsupportedError without matplotlib."""
    return _drawn(charts, "png", dpi=_DPI)


def _drawn(charts: Sequence[Chart], form: str, **how: Any) -> bytes:
    shown = [part for chart in charts for part in parts(chart)]
    with _matplotlib() as library:
        figure = library.figure.Figure(figsize=(_INCHES[0], _INCHES[1] * len(shown)), layout="constrained")
        figure.get_layout_engine().set(hspace=0.06)
        for place, chart in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
            _draw(place, chart)
        data = io.BytesIO()
        figure.savefig(data, format=form, facecolor="white", **how)
        return data.getvalue()


@contextlib.contextmanager
def _matplotlib() -> Iterator[Any]:
    """The library with our style alone.

    By itself it takes settings from the directory it is started in, which may be anybody's, and writes what fonts
    there are below the user's home: it is started in an empty directory, which is removed.
    """
    with tempfile.TemporaryDirectory(prefix="ctctl-") as empty, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font has not is a box, not a line on stderr
        os.environ["MPLCONFIGDIR"] = empty
        try:
            with contextlib.chdir(empty):
                import matplotlib
                import matplotlib.figure
        except ImportError:
            raise MissingLibraryError("charts in files need matplotlib", "plot") from None
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            yield matplotlib


def parts(chart: Chart) -> list[Chart]:
    """A chart as one or several that have no more lines than there are colours, with the same axes."""
    count = max(math.ceil(len(chart.lines) / len(COLORS)), 1)
    if count == 1:
        return [chart]
    size = math.ceil(len(chart.lines) / count)
    return [
        replace(
            chart,
            title=f"{chart.title} ({number + 1} of {count})",
            lines=chart.lines[number * size :][:size],
            x_end=chart.x_max,
            y_end=chart.y_max,
        )
        for number in range(count)
    ]


def _draw(axes: Any, chart: Chart) -> None:
    drawn = [
        axes.plot([x for x, _ in line.points], [max(0.0, y) for _, y in line.points], color=color, gid="line")[0]
        for line, color in zip(chart.lines, COLORS, strict=False)
    ]
    axes.set_title(safe(chart.title))
    axes.set_xlim(0, chart.x_max)
    axes.set_ylim(0, chart.y_max * 1.05)
    axes.set_xticks(times(chart.x_max))
    axes.xaxis.set_major_formatter(lambda value, _at: format_duration(round(value)))
    if chart.y_is_time:
        axes.set_yticks(times(chart.y_max))
    axes.yaxis.set_major_formatter(lambda value, _at: chart.unit(value))
    # Beside the axes: no line runs there. Given afterwards, as a label that begins with _ would be left out.
    legend = axes.legend(drawn, ["-"] * len(drawn), loc="upper left", bbox_to_anchor=(1.0, 1.05), frameon=False)
    for text, line in zip(legend.get_texts(), chart.lines, strict=True):
        name = safe(line.name)
        text.set_text(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…")


def times(end: float) -> list[float]:
    """At most seven times from 0 on, at steps that clocks have."""
    step = next((one for one in _TICKS_S if end / one <= 6), math.ceil(end / 6 / 604800) * 604800)
    return [float(at * step) for at in range(int(end / step) + 1)]
