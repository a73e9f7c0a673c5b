"""Levels of the same reservoir and time from several roads, joined to one: a mean weighted by how far each has been off before."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Optional

import numpy as np

from .conformal import half_width
from .series import Estimate

#: Methods in the order in which they lend a combined level its time and source.
METHODS = ("network", "area", "shoreline")
SHARED = 10  # dates on which both errors are known, before a correlation is believed
FEW = 5  # errors, before their mean square is
SAYS = 0.1  # share of the mean from which on a method's flags are the mean's, too
CLOSEST = 0.98  # correlation: closer than that the weights hang on chance
# a level that is none, hides behind a cloud, or lies where no error is known (a curve goes on as a line, a network does not go on)
UNFIT = frozenset({"no_datum", "unknown_reservoir", "cloud", "cut_off", "outside_range"})

#: Errors (estimated - observed, m) with their times, by method; only of dates that the method had not seen.
Errors = Mapping[str, Sequence[tuple]]


@dataclass(frozen=True)
class Weights:
    """Share of each method, with sum 1; `sd_m`: of each one's errors; `dates` on which all were known, and `correlation`, the mean one
    between them, None where there were too few dates; `half_width_m` of the interval, None where it follows from the estimates' own."""

    methods: tuple
    shares: tuple
    sd_m: tuple
    correlation: Optional[float] = None
    dates: int = 0
    half_width_m: Optional[float] = None

    def line(self) -> str:
        told = ", ".join(f"{name} {share:.0%} (error {sd:.2f} m)" for name, share, sd in zip(self.methods, self.shares, self.sd_m))
        how = "correlation of errors not known" if self.correlation is None else f"errors correlate by {self.correlation:.2f}"
        return f"{told}; {how}, {self.dates} shared dates"


def shares(covariance: np.ndarray) -> np.ndarray:
    """Weights `(k,)`, none negative, with sum 1, of the mean with the least variance, for a covariance of errors `(k, k)`.

    Bates and Granger (1969), "The combination of forecasts", 10.1057/jors.1969.103, for two; any number here. A negative weight would bet on the
    correlation being exact, so that a method that would get one is left out: of all subsets the one with the least variance.
    """
    best, least = None, np.inf
    for size in range(1, len(covariance) + 1):
        for chosen in map(list, itertools.combinations(range(len(covariance)), size)):
            part = np.linalg.pinv(covariance[np.ix_(chosen, chosen)]).sum(1)
            if part.sum() <= 0 or part.min() < 0:
                continue
            weights = np.zeros(len(covariance))
            weights[chosen] = part / part.sum()
            variance = weights @ covariance @ weights
            if variance < least * (1 - 1e-9):
                best, least = weights, variance
    return np.full(len(covariance), 1 / len(covariance)) if best is None else best


def covariance(errors: np.ndarray) -> np.ndarray:
    """Mean products `(k, k)` of errors `(n, k)` in m about 0, for a bias is an error, too. Correlations are held in 0..0.98: that two roads
    should be wrong in opposite directions is not believed."""
    products = errors.T @ errors / len(errors)
    sd = np.maximum(np.sqrt(np.diag(products)), 1e-6)
    correlation = np.clip(products / np.outer(sd, sd), 0, CLOSEST)
    np.fill_diagonal(correlation, 1)
    return correlation * np.outer(sd, sd)


def learnt(methods: Sequence[str], errors: np.ndarray, coverage: float) -> Weights:
    """Weights from the errors `(n, k)` of all methods on the same dates. The interval is calibrated on each date's error with the weights of
    the other dates; where they are too few for that it is that of a normal distribution. `coverage`: 0..1."""
    of_all = covariance(errors)
    sd, others = np.sqrt(np.diag(of_all)), np.eye(len(methods), dtype=bool)
    weights = shares(of_all)
    held = [float(errors[i] @ shares(covariance(np.delete(errors, i, 0)))) for i in range(len(errors))]
    half = half_width(held, coverage)
    if half is None:
        half = _quantile(coverage) * float(np.sqrt(weights @ of_all @ weights))
    correlation = float((of_all / np.outer(sd, sd))[~others].mean())
    return Weights(tuple(methods), tuple(weights.tolist()), tuple(sd.tolist()), correlation, len(errors), half)


def assumed(methods: Sequence[str], sd_m: Sequence[float], dates: int = 0) -> Weights:
    """Weights by inverse variance, where errors on common dates are not known. What they gain is not claimed: the combined interval is as
    wide as if all errors were one, the weighted mean of the methods' own."""
    inverse = 1 / np.maximum(np.asarray(sd_m, np.float64), 1e-6) ** 2
    return Weights(tuple(methods), tuple((inverse / inverse.sum()).tolist()), tuple(map(float, sd_m)), None, dates)


def combined(
    estimates: Sequence[Estimate], errors: Mapping[str, Errors], coverage: float, together: dt.timedelta
) -> tuple[list[Estimate], dict]:
    """Estimates by method "combined", wherever two or more methods tell a level of a reservoir within `together`; and the weights by
    (reservoir, methods), for people. `errors` by reservoir; `coverage` 0..1.

    A level that is a depth, of an unknown reservoir, or hides behind a cloud or the scene's edge is not joined, nor is one of unknown accuracy.
    """
    made, told, common = [], {}, {}
    for name in dict.fromkeys(e.reservoir for e in estimates):
        usable = [
            e for e in estimates if e.reservoir == name and e.level_m is not None and not UNFIT & set(e.flags) and e.method in METHODS
        ]
        known = errors.get(name, {})
        for group in groups(usable, together):
            weighed = [(e, _sd(e, known.get(e.method, ()), coverage)) for e in group]
            weighed = [(e, sd) for e, sd in weighed if sd is not None]
            key = name, tuple(e.method for e, _ in weighed)
            if len(weighed) < 2:
                continue
            if key not in common:
                common[key] = _common([known.get(m, ()) for m in key[1]], together)
                if len(common[key]) >= SHARED:
                    told[key] = learnt(key[1], common[key], coverage)
            if len(common[key]) < SHARED:  # each date has its own widths
                told[key] = assumed(key[1], [sd for _, sd in weighed], len(common[key]))
            made.append(_joined([e for e, _ in weighed], told[key]))
    return sorted(made, key=lambda e: (e.reservoir, e.when)), told


def groups(estimates: Sequence[Estimate], together: dt.timedelta) -> list[list[Estimate]]:
    """Estimates of one reservoir by time: each with the nearest of the other methods within `together`, one per method, in the order of
    `METHODS`. Those without company are left out."""
    rest, found = {method: [e for e in estimates if e.method == method] for method in METHODS}, []
    for place, method in enumerate(METHODS):
        for first in sorted(rest[method], key=lambda e: e.when):
            group = [first]
            for other in METHODS[place + 1 :]:
                near = min(rest[other], key=lambda e: abs(e.when - first.when), default=None)
                if near is not None and abs(near.when - first.when) <= together:
                    group.append(near)
                    rest[other].remove(near)
            if len(group) > 1:
                found.append(group)
    return found


def _common(listed: Sequence[Sequence[tuple]], together: dt.timedelta) -> np.ndarray:
    """Errors `(n, k)` of the dates that all lists know."""
    rows = []
    for when, error in listed[0]:
        row = [error]
        for others in listed[1:]:
            near = min(others, key=lambda item: abs(item[0] - when), default=None)
            if near is None or abs(near[0] - when) > together:
                break
            row.append(near[1])
        else:
            rows.append(row)
    return np.array(rows, np.float64).reshape(-1, len(listed))


def _sd(estimate: Estimate, errors: Sequence[tuple], coverage: float) -> Optional[float]:
    """Standard deviation of an estimate's error in m, or None if nothing tells it."""
    if len(errors) >= FEW:
        return float(np.sqrt(np.mean([error**2 for _, error in errors])))
    half = _half(estimate)
    return None if half is None else half / _quantile(coverage)


def _half(estimate: Estimate) -> Optional[float]:
    return None if estimate.low_m is None or estimate.high_m is None else (estimate.high_m - estimate.low_m) / 2


def _quantile(coverage: float) -> float:
    return NormalDist().inv_cdf(0.5 + coverage / 2)


def _joined(group: Sequence[Estimate], weights: Weights) -> Estimate:
    level = sum(share * e.level_m for share, e in zip(weights.shares, group))
    halves = [_half(e) for e in group]
    half = weights.half_width_m
    if half is None and None not in halves:
        half = sum(share * h for share, h in zip(weights.shares, halves))
    heard = [(e, h) for e, h, share in zip(group, halves, weights.shares) if share >= SAYS]
    flags = list(dict.fromkeys(f for e, _ in heard for f in e.flags if f != "no_interval"))
    apart = any(
        abs(a.level_m - b.level_m) > ha + hb for (a, ha), (b, hb) in itertools.combinations(heard, 2) if ha is not None and hb is not None
    )
    if apart and "disagreement" not in flags:
        flags.append("disagreement")
    if half is None:
        flags.append("no_interval")
    first, clouds = group[0], [e.cloud for e in group if e.cloud is not None]
    parts = [e.part for e, _ in heard]
    return replace(
        first, level_m=level, low_m=None if half is None else level - half, high_m=None if half is None else level + half, method="combined",
        flags=tuple(flags), source=" + ".join(dict.fromkeys(e.source for e in group if e.source)), spread_m=None,
        area_m2=next((e.area_m2 for e in group if e.area_m2 is not None), None),
        observed_m=next((e.observed_m for e in group if e.observed_m is not None), None),
        part="train" if "train" in parts else next(filter(None, parts), ""), cloud=max(clouds, default=None),
    )  # fmt: skip
