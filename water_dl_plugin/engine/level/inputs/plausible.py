"""What looks odd in gauge readings. Nothing is removed: a flood is as steep as a mistake, and only people can tell."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from ..series import Reading

FOOT = 0.3048
ALIKE = 0.01  # m; levels within it do not vary
_SIGMAS = 10.0
_FLOOR = 0.02  # m; what gauges are read to
_SPIKE = 0.5  # m; smaller jumps do little harm
_NEIGHBOURS = 5  # readings on each side that must lie still around a step
_CLOSE = 7.0  # days; readings farther apart make no jump


def doubts(readings: Sequence[Reading], heights: Optional[Mapping[str, float]] = None) -> list[str]:
    """Lines "Warning: ..." about levels that do not vary, spikes, steps, gaps, feet; call it with the readings of the reservoirs in use.

    `heights`: a height in m that the levels should be near (a reservoir's datum, its DEM), by name, to suspect feet.
    """
    groups: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        groups[reading.reservoir].append(reading)
    lines = []
    for name, group in sorted(groups.items()):
        group = sorted(group, key=lambda r: r.when)
        levels = np.array([r.level_m for r in group])
        days = np.array([(r.when - group[0].when).total_seconds() / 86400 for r in group])
        told = _of_one(levels, days, [r.when for r in group], (heights or {}).get(name))
        lines += [f"Warning: gauge{f' of {name}' if name else ''}: {line}" for line in told]
    return lines


def _of_one(levels: np.ndarray, days: np.ndarray, times: list[dt.datetime], height: Optional[float]) -> list[str]:
    lines = []
    if height and feet(levels, height):
        lines.append(f"levels are near {np.median(levels):.1f}, which is {height:.1f} m in feet; if they are feet, set UNIT to ft.")
    if len(levels) < 2:
        return [*lines, "there is one reading only."]
    if np.ptp(levels) < ALIKE:
        return [*lines, f"all {len(levels)} levels are alike ({levels[0]:.2f} m)."]
    zeros, lowest = int((levels == 0).sum()), float(np.abs(levels[levels != 0]).min())
    if zeros and lowest > _SPIKE:
        lines.append(f"{zeros} levels are exactly 0, the next is {lowest:.2f} m; if 0 marks missing levels, add it to MISSING.")
    spikes, steps = jumps(levels, days)
    if len(spikes):
        lines.append(f"{_dates(times, spikes)}: there and back by more than {_SIGMAS:.0f} times the usual change; a wrong reading?")
    if len(steps):
        lines.append(f"{_dates(times, steps)}: the level jumps and stays; a new zero of the gauge, or a flood?")
    gap = np.diff(days)
    longest = int(np.argmax(gap))
    if gap[longest] > max(30.0, 20 * float(np.median(gap))):
        lines.append(f"no reading from {times[longest]:%Y-%m-%d} to {times[longest + 1]:%Y-%m-%d}.")
    return lines


def feet(levels: np.ndarray, height: float) -> bool:
    """Are levels a known height (m) told in feet, rather than in m?"""
    ratio = float(np.median(levels)) / height
    return 0.97 < ratio * FOOT < 1.03


def jumps(levels: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of single readings that lie off both neighbours (n,), and of first readings after a step, in a series in time (level m, day).

    A change is large beyond ten robust sigmas (1.4826 median absolute deviations) of the changes from reading to reading; a step is one
    that comes between readings which lie still.
    """
    change, gap = np.diff(levels), np.diff(days)
    if len(change) < 4:
        return np.array([], int), np.array([], int)
    sigma = max(1.4826 * float(np.median(np.abs(change - np.median(change)))), _FLOOR)
    large = (np.abs(change) > max(_SIGMAS * sigma, _SPIKE)) & (gap <= _CLOSE)
    back = np.abs(levels[2:] - levels[:-2]) < 0.3 * np.minimum(np.abs(change[:-1]), np.abs(change[1:]))
    spikes = 1 + np.flatnonzero(large[:-1] & large[1:] & (change[:-1] * change[1:] < 0) & back)
    near = set(spikes) | set(spikes - 1)
    still = np.abs(change) <= 3 * sigma
    steps = []
    for i in np.flatnonzero(large):
        around = np.r_[still[max(i - _NEIGHBOURS, 0) : i], still[i + 1 : i + 1 + _NEIGHBOURS]]
        if i not in near and len(around) >= _NEIGHBOURS and around.all():
            steps.append(i + 1)
    return spikes, np.array(steps, int)


def _dates(times: Sequence[dt.datetime], places: np.ndarray) -> str:
    told = ", ".join(f"{times[i]:%Y-%m-%d}" for i in places[:5])
    return told + (f" and {len(places) - 5} more" if len(places) > 5 else "")
