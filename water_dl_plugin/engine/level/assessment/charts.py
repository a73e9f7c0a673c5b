"""Figures of water levels for reports; see ../plots.py for the manner. Methods differ by colour and by marker."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from ...plots import BLUE, FAINT, GREEN, GREY, INK, ORANGE, SOFT, WIDTH, dress, new_figure, shortened

PURPLE, CRIMSON, BROWN = "#7b4f9d", "#b03a5b", "#8a6d3b"
#: Colour, marker and its size in points of each method.
STYLES = {
    "combined": (INK, "D", 3.8), "network": (BLUE, "o", 4.4), "area": (ORANGE, "s", 4.0), "shoreline": (GREEN, "^", 4.8),
}  # fmt: skip
OTHERS = ((PURPLE, "P", 5.0), (CRIMSON, "v", 4.8), (GREY, "X", 5.0), (BROWN, "p", 5.0))
GAUGE = ("#9db0be", "gauge")
SPARSE = 90  # dates up to which each has a whisker and a full marker; more get a band
DENSE = 400  # dates from which only some have a marker: they would cover each other, and swell the page
MARKED = 12  # errors beyond the axis that are told by their number
BREAK = 6  # a line is broken where dates are so many times further apart than usual


@dataclass(frozen=True)
class Line:
    """What one method, or one part of a training, says, in any order of time.

    `name`: a key of `STYLES` or any other text; `when`: n naive UTC datetimes; all others arrays `(n,)`: `level_m`; `low_m`, `high_m` the
    interval; `observed_m` the gauge's level (NaN where unknown); `doubtful` (flagged) and `seen` (trained with) bool, None: none is.
    """

    name: str
    when: Sequence[dt.datetime]
    level_m: Any
    low_m: Any = None
    high_m: Any = None
    observed_m: Any = None
    doubtful: Any = None
    seen: Any = None

    def sorted(self) -> Line:
        """In order of time, all fields filled as arrays, without dates that have no level."""
        count = len(self.when)
        number = {k: _numbers(getattr(self, k), count) for k in ("level_m", "low_m", "high_m", "observed_m")}
        mark = {k: np.zeros(count, bool) if getattr(self, k) is None else np.asarray(getattr(self, k), bool) for k in ("doubtful", "seen")}
        when = np.array(self.when, "datetime64[s]")
        order = np.argsort(when, kind="stable")
        order = order[np.isfinite(number["level_m"][order])]
        return Line(self.name, when[order], **{k: v[order] for k, v in {**number, **mark}.items()})


def over_time(
    lines: Sequence[Line], gauge: Optional[tuple[Sequence[dt.datetime], Any]] = None, title: str = "Water level, m", apart: bool = False
):
    """Levels of one reservoir over time with their intervals; `gauge`: (times, levels) of all that the gauge said, None: the lines'
    `observed_m`. Hollow: doubtful; faint: trained with. `apart` gives each line a panel of its own (methods that speak of the same dates)."""
    lines = [line.sorted() for line in lines]
    readings = _readings(lines) if gauge is None else (np.array(gauge[0], "datetime64[s]"), _numbers(gauge[1], len(gauge[0])))
    view = _view(lines, readings[0])
    if view:  # a gauge's record may be decades longer
        inside = (readings[0] >= view[0]) & (readings[0] <= view[1])
        readings = readings[0][inside], readings[1][inside]
    figure = new_figure(2.35 * len(lines) if apart and len(lines) > 1 else 4.1)
    for axes, number, some in _panels(figure, lines, apart):
        _gauge(axes, *readings)
        for k, line in enumerate(some, number):
            colour, marker, size = style(line.name, k)
            count, known = line.level_m.size, np.isfinite(line.low_m) & np.isfinite(line.high_m)
            if count <= SPARSE:
                _whiskers(axes, line, line.when, colour, 3 + k)
            for part in _pieces(line.when, known) if count > SPARSE else ():
                axes.fill_between(line.when[part], line.low_m[part], line.high_m[part], color=colour, alpha=0.16, linewidth=0, zorder=2)
            for part in _pieces(line.when):
                axes.plot(line.when[part], line.level_m[part], color=colour, linewidth=0.9, alpha=0.4, zorder=3 + k)
            _points(axes, line, line.level_m, colour, marker, size, 3 + k)
        dress(axes, title=title if number == 0 else "")
        _dates(axes, view)
        _legend(axes, some, number, lines, bool(readings[0].size))
    return figure


def residuals(lines: Sequence[Line], limit_m: float = 1.0, title: str = "Estimated minus observed, m", apart: bool = False):
    """Errors over time; dotted: +- `limit_m`. The axis is cut where a few errors dwarf all others; these stand at its edge with their value."""
    lines = [_observed(line.sorted()) for line in lines]
    every = np.abs(np.concatenate([np.zeros(1), *(line.level_m - line.observed_m for line in lines)]))
    reach = 1.12 * max(float(every.max()), 0.05)
    usual = 2.5 * float(np.percentile(every, 95))
    if 0 < 2 * usual < reach and (every > usual).sum() <= MARKED:
        reach = usual
    figure = new_figure(1.75 * len(lines) if apart and len(lines) > 1 else 2.9)
    for axes, number, some in _panels(figure, lines, apart):
        for y in (-limit_m, limit_m):
            if limit_m <= reach:
                axes.axhline(y, color=FAINT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        axes.axhline(0, color=INK, linewidth=0.8, zorder=1.5)
        for k, line in enumerate(some, number):
            (colour, marker, size), error = style(line.name, k), line.level_m - line.observed_m
            for part in _pieces(line.when) if error.size <= DENSE else ():
                axes.plot(line.when[part], error[part], color=colour, linewidth=0.7, alpha=0.3, zorder=2)
            _points(axes, line, np.clip(error, -0.97 * reach, 0.97 * reach), colour, marker, size, 3 + k, errors=error)
            for at in np.flatnonzero(np.abs(error) > reach):
                told, side = f"{error[at]:+.1f}".replace("-", "\u2212"), 1 if error[at] > 0 else -1
                axes.annotate(
                    told, (line.when[at], side * 0.97 * reach), (5, 0), textcoords="offset points", va="center", fontsize=8, color=colour
                )
        axes.set_ylim(-reach, reach)
        dress(axes, title=title if number == 0 else "")
        _dates(axes, _view(lines))
        _legend(axes, some, number, lines, False)
    return figure


def scatter(lines: Sequence[Line], title: str = "", apart: bool = False):
    """Estimated over observed levels with the 1:1 line and the intervals."""
    lines = [_observed(line.sorted()) for line in lines]
    shown = [(line.level_m, line.observed_m, *((line.low_m, line.high_m) if line.level_m.size <= SPARSE else ())) for line in lines]
    every = np.concatenate([np.zeros(0), *(values[np.isfinite(values)] for some in shown for values in some)])
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    room = 0.06 * max(high - low, 0.1)
    several = apart and len(lines) > 1
    width = WIDTH if several else WIDTH * 0.56
    figure = new_figure(min(4.3, width / len(lines) + 0.6) if several else 4.3, width=width)
    for axes, number, some in _panels(figure, lines, apart, beside=True):
        axes.plot([low - room, high + room], [low - room, high + room], color=GREY, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
        for k, line in enumerate(some, number):
            colour, marker, size = style(line.name, k)
            if line.level_m.size <= SPARSE:
                _whiskers(axes, line, line.observed_m, colour, 2)
            _points(axes, line, line.level_m, colour, marker, 0.85 * size, 3 + k, x=line.observed_m, errors=line.level_m - line.observed_m)
        dress(axes, title=title if number == 0 else "", x="observed level, m", y="estimated level, m" if number == 0 else "", grid="both")
        axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(_few())
        _legend(axes, some, number, (), False)
    return figure


def _panels(figure, lines: list, apart: bool, beside: bool = False) -> list:
    """(axes, number of its first line, its lines): one for all, or `apart` one for each."""
    if not apart or len(lines) < 2:
        return [(figure.add_subplot(), 0, lines)]
    many = {"ncols" if beside else "nrows": len(lines)}
    grid = figure.subplots(sharex=True, sharey=True, **many)
    return [(axes, number, [line]) for number, (axes, line) in enumerate(zip(grid, lines))]


def style(name: str, number: int) -> tuple[str, str, float]:
    """Colour, marker and size of what is `number`-th in a figure."""
    return STYLES.get(name) or OTHERS[number % len(OTHERS)]


def _whiskers(axes, line: Line, x: np.ndarray, colour: str, above: float) -> None:
    known = np.isfinite(line.low_m) & np.isfinite(line.high_m)
    if known.any():
        axes.vlines(x[known], line.low_m[known], line.high_m[known], color=colour, linewidth=1.1, alpha=0.4, zorder=above)


def _points(axes, line: Line, y: np.ndarray, colour: str, marker: str, size: float, above: float, x=None, errors=None) -> None:
    """Markers: full, hollow where doubtful, faint where trained with. Of very many some, among them the largest `errors`."""
    x = line.when if x is None else x
    shown = _thinned(y.size, errors, line.doubtful)
    size = size if y.size <= SPARSE else 0.8 * size if y.size <= DENSE else 0.62 * size
    for chosen, face, alpha in (
        (line.seen, colour, 0.38), (~line.seen & ~line.doubtful, colour, 0.85 if y.size <= DENSE else 0.6), (line.doubtful & ~line.seen, "white", 0.95),
    ):  # fmt: skip
        some = shown & chosen
        if some.any():
            axes.plot(
                x[some], y[some], linestyle="", marker=marker, color=colour, markersize=size, markerfacecolor=face, alpha=alpha, zorder=above,
                markeredgecolor=colour, markeredgewidth=1.0 if face == "white" else 0.0,
            )  # fmt: skip


def _thinned(count: int, errors: Optional[np.ndarray], doubtful: np.ndarray) -> np.ndarray:
    """Which of so many dates get a marker: all up to `DENSE`, else evenly so many, with the largest errors and the doubtful ones."""
    if count <= DENSE:
        return np.ones(count, bool)
    shown = np.zeros(count, bool)
    shown[np.linspace(0, count - 1, DENSE).round().astype(int)] = True
    if errors is not None:
        shown[np.argsort(-np.abs(errors))[: DENSE // 4]] = True
    shown[np.flatnonzero(doubtful)[:DENSE]] = True
    return shown


def _gauge(axes, when: np.ndarray, level: np.ndarray) -> None:
    order = np.argsort(when, kind="stable")
    order = order[np.isfinite(level[order])]
    when, level = when[order], level[order]
    for part in _pieces(when):
        axes.plot(when[part], level[part], color=GAUGE[0], linewidth=2.2, solid_capstyle="round", zorder=1.5)
    if level.size <= SPARSE:
        axes.plot(when, level, linestyle="", marker="_", color=GAUGE[0], markersize=9, markeredgewidth=2.2, zorder=1.5)


def _readings(lines: Iterable[Line]) -> tuple[np.ndarray, np.ndarray]:
    """What the lines' dates were observed at, each time once."""
    lines = list(lines)
    when = np.concatenate([line.when for line in lines] or [np.zeros(0, "datetime64[s]")])
    level = np.concatenate([line.observed_m for line in lines] or [np.zeros(0)])
    when, level = when[np.isfinite(level)], level[np.isfinite(level)]
    when, first = np.unique(when, return_index=True)
    return when, level[first]


def _pieces(when: np.ndarray, known: Optional[np.ndarray] = None) -> list[np.ndarray]:
    """Places of dates in order, broken where they lie much further apart than usual, and where not `known`."""
    places = np.arange(when.size) if known is None else np.flatnonzero(known)
    if when.size < 3:
        return [places] if places.size else []
    steps = np.diff(when).astype(float)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    breaks = (np.diff(places) > 1) | (np.diff(when[places]).astype(float) > BREAK * usual)
    return [part for part in np.split(places, np.flatnonzero(breaks) + 1) if part.size]


def _observed(line: Line) -> Line:
    """Only the dates that the gauge knows."""
    known = np.isfinite(line.observed_m)
    fields = ("when", "level_m", "low_m", "high_m", "observed_m", "doubtful", "seen")
    return Line(line.name, **{k: getattr(line, k)[known] for k in fields})


def _view(lines: Sequence[Line], gauge: Optional[np.ndarray] = None) -> tuple:
    """First and last time that is shown: the estimates', or the gauge's if there are none; () if there is nothing."""
    when = np.concatenate([line.when for line in lines] or [np.zeros(0, "datetime64[s]")])
    when = gauge if not when.size and gauge is not None else when
    if not when.size:
        return ()
    room = np.timedelta64(max(int((when.max() - when.min()).astype(int) * 0.025), 4 * 86_400), "s")
    return when.min() - room, when.max() + room


def _dates(axes, view: tuple) -> None:
    import matplotlib.dates as dates

    if not view:
        axes.set_xticks([])
        return
    axes.set_xlim(*view)
    locator = dates.AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set(fontsize=8.5, color=SOFT)


def _legend(axes, lines: Sequence[Line], number: int, every: Sequence[Line], gauge: bool) -> None:
    """Above the axes on the right, where nothing is drawn; the title stands on the left. What holds for all panels is told once."""
    from matplotlib.lines import Line2D

    entries = [Line2D([], [], color=GAUGE[0], linewidth=2.2, label=GAUGE[1])] if gauge and number == 0 else []
    for k, line in enumerate(lines, number):
        colour, marker, size = style(line.name, k)
        entries.append(Line2D([], [], color=colour, marker=marker, markersize=size + 0.6, linewidth=0.9, label=shortened(line.name, 36)))
    for key, face, label, alpha in (("doubtful", "white", "doubtful", 1.0), ("seen", SOFT, "trained with", 0.35)):
        if number == 0 and any(getattr(line, key).any() for line in every):
            entries.append(
                Line2D([], [], linestyle="", marker="o", color=SOFT, markerfacecolor=face, markersize=5, alpha=alpha, label=label)
            )
    axes.legend(
        handles=entries, loc="lower right", bbox_to_anchor=(1.01, 0.99), ncol=max(len(entries), 1), frameon=False, fontsize=8.5, labelcolor=INK,
        handlelength=1.5, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip


def _few():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6)


def _numbers(values: Any, count: int) -> np.ndarray:
    return np.full(count, math.nan) if values is None else np.array([math.nan if v is None else v for v in values], np.float64)
