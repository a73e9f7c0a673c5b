"""Figures of a search. Every function returns a `matplotlib.figure.Figure`; trials are `study.Trial`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import plots
from ..plots import BLUE, FAINT, GREY, INK, LINE, ORANGE, SOFT, dress, new_figure, shortened
from .space import Range, Space, position


def history(trials: Sequence, monitor: str, lower_is_better: bool):
    """Figure of each trial, and the best so far; trials that were given up early are hollow, failed ones a cross at the edge."""
    figure = new_figure(3.2)
    axes = figure.add_subplot()
    ended = [t for t in trials if t.state == "complete"]
    pruned = [t for t in trials if t.state == "pruned"]
    failed = [t for t in trials if t.state == "failed"]
    axes.plot([t.number for t in ended], [t.figure for t in ended], "o", color=BLUE, markersize=5.5, label="complete", zorder=3)
    if pruned:
        axes.plot(
            [t.number for t in pruned],
            [t.figure for t in pruned],
            "o",
            color="white",
            markeredgecolor=GREY,
            markersize=5,
            label="given up early",
            zorder=2,
        )
    if ended:
        pick = np.fmin if lower_is_better else np.fmax
        numbers = np.arange(ended[0].number, max(t.number for t in trials) + 1)
        known = {t.number: t.figure for t in ended}
        so_far = pick.accumulate([known.get(n, math.nan) for n in numbers])
        axes.plot(numbers, so_far, color=ORANGE, linewidth=1.5, drawstyle="steps-post", label="best so far", zorder=1)
        if ended[0].number == 1:
            axes.axhline(ended[0].figure, color=FAINT, linewidth=0.9, linestyle=(0, (3, 3)), label="the defaults (trial 1)", zorder=0)
    if failed:
        low, _ = axes.get_ylim() if ended or pruned else (0, 1)
        axes.plot([t.number for t in failed], [low] * len(failed), "x", color=INK, markersize=6, label="failed", clip_on=False)
    dress(axes, x="trial", y=shortened(f"{monitor} ({'less' if lower_is_better else 'more'} is better)", 40))
    axes.set_xlim(0.5, max(t.number for t in trials) + 0.5)
    plots._whole(axes.xaxis)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncol=5,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.4,
        columnspacing=1.4,
    )
    return figure


def importances(shares: dict[str, float]):
    """Bars, the most important setting on top."""
    figure = new_figure(0.6 + 0.3 * len(shares), width=plots.WIDTH * 0.7)
    axes = figure.add_subplot()
    for row, value in enumerate(shares.values()):
        axes.barh(row, value, height=0.58, color=BLUE)
        axes.text(value + 0.01, row, f"{value:.0%}", va="center", fontsize=9, color=INK)
    dress(axes, grid="x")
    axes.set(xlim=(0, 1.12 * max([*shares.values(), 0.01])), ylim=(len(shares) - 0.4, -0.6))
    axes.set_yticks(range(len(shares)), [shortened(n, 30) for n in shares])
    axes.set_xticks([])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.spines["bottom"].set_visible(False)
    return figure


def slices(trials: Sequence, space: Space, monitor: str, best):
    """Figure over each setting: a point per trial, later ones darker; the best one ringed. Choices are scattered a little sideways."""
    columns = min(3, len(space))
    rows = -(-len(space) // columns)
    figure = new_figure(2.15 * rows, width=plots.WIDTH * columns / 3)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    shown = [t for t in trials if math.isfinite(t.figure)]
    last = max(t.number for t in shown)
    for k, (axes, (name, axis)) in enumerate(zip(grid.flat, space.items())):
        for t in shown:
            at = _at(axis, t.values[name], t.number)
            colour = plots._blue(0.15 + 0.85 * t.number / last)
            axes.plot(at, t.figure, "o", color=colour if t.state == "complete" else "white", markeredgecolor=colour, markersize=5)
        if best is not None:
            axes.plot(
                _at(axis, best.values[name], best.number),
                best.figure,
                "o",
                color="none",
                markeredgecolor=ORANGE,
                markeredgewidth=1.6,
                markersize=9,
            )
        dress(axes, title=shortened(name, 30), y=monitor if k % columns == 0 else "")
        if not isinstance(axis, Range):
            names = [shortened("none" if c == "" else c, 18) for c in axis]
            axes.set_xticks(range(len(axis)), names, rotation=25 if sum(map(len, names)) > 30 else 0)
            axes.set_xlim(-0.5, len(axis) - 0.5)
        elif axis.log:
            axes.set_xscale("log")
            axes.tick_params(which="minor", length=0)
    for axes in list(grid.flat)[len(space) :]:
        axes.set_visible(False)
    return figure


def courses(trials: Sequence, monitor: str, best):
    """Best figure so far over the epochs, a line per trial: what early ends were decided on."""
    figure = new_figure(3.0)
    axes = figure.add_subplot()
    for t in sorted(trials, key=lambda t: t is best):
        if t.course:
            x, y = zip(*t.course)
            colour = ORANGE if t is best else BLUE if t.state == "complete" else FAINT if t.state == "pruned" else LINE
            axes.plot(
                x,
                y,
                color=colour,
                linewidth=2 if t is best else 1,
                alpha=1 if t is best else 0.7,
                marker="" if t.state == "complete" else "|",
            )
    dress(axes, x="epoch", y=shortened(monitor, 40))
    plots._whole(axes.xaxis)
    axes.annotate(
        "orange: the best trial   blue: complete   grey: given up early",
        (0, 1),
        (0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=SOFT,
    )
    return figure


def _at(axis, value, number: int) -> float:
    if isinstance(axis, Range):
        return value
    return position(axis, value) * max(len(axis) - 1, 1) + 0.12 * math.sin(7.0 * number)
