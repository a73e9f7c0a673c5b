"""How far estimated levels are off: figures of one series, and a table by method, reservoir and part. Pure arithmetic."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from ..series import PARTS, Estimate

#: Methods in the order in which people look at them; the first that is there is the one that counts unless another is asked for.
METHODS = ("combined", "network", "area", "shoreline")
#: Parts of a table of figures: name -> (what `Estimate.part` may be, what it is called).
GROUPS = {
    "all": (("", *PARTS), "all"),
    "unseen": (("", "validation", "test"), "unseen"),
    "train": (("train",), "trained with"),
    "validation": (("validation",), "validation"),
    "test": (("test",), "test"),
    "new": (("",), "new"),
}
FIGURES = ("n", "r2", "pearson_r2", "nse", "rmse", "mae", "bias", "max_error", "days_off", "with_interval", "coverage", "width_m")
DRAWINGS = 1000
_ALIKE = 1e-12  # m2: levels that vary by less do so by rounding
BLOCKS = 8  # quarters of a year with dates: with fewer, drawing among them tells nothing


def methods_of(estimates: Sequence[Estimate]) -> list[str]:
    """The methods that are there, in the order of `METHODS`, then others by name."""
    found = {e.method for e in estimates}
    return [*(m for m in METHODS if m in found), *sorted(found.difference(METHODS))]


def comparable(estimate: Estimate) -> bool:
    """Has it a level and the gauge one? A depth over an unknown datum is no level."""
    return estimate.level_m is not None and estimate.observed_m is not None and "no_datum" not in estimate.flags


def figures(
    observed: Any, estimated: Any, low: Any = None, high: Any = None, *, groups: Optional[Sequence] = None, limit_m: float = 1.0
) -> dict[str, Any]:
    """Figures of estimated levels against observed ones, arrays `(n,)` in m; NaN in either leaves that date out. Undefined figures are NaN.

    `low` and `high` are the prediction intervals (NaN where there is none); `groups` the reservoir of each date, None: all are of one.

    - `r2`: 1 - SSE / SST about the mean of all observed levels, so that a bias counts and it may be below 0;
    - `nse`: the same about the mean of the own reservoir (Nash and Sutcliffe 1970, 10.1016/0022-1694(70)90255-6): of several reservoirs `r2` is
      good as soon as their mean levels are told apart, `nse` is not;
    - `pearson_r2`: squared correlation, blind to bias and scale; `rmse`, `mae`, `bias` (estimated - observed), `max_error` (largest |error|), in m;
    - `days_off`: dates with |error| above `limit_m`; `coverage`: share of the `with_interval` dates that lie inside it; `width_m`: its mean width.
    """
    observed, estimated = _array(observed), _array(estimated)
    both = np.isfinite(observed) & np.isfinite(estimated)
    owner = np.zeros(observed.size, np.int64) if groups is None else np.unique(np.asarray(groups, str), return_inverse=True)[1].reshape(-1)
    o, e, owner = observed[both], estimated[both], owner[both]
    error, n = e - o, int(both.sum())
    result: dict[str, Any] = {"n": n, **dict.fromkeys(FIGURES[1:], math.nan), "days_off": 0, "with_interval": 0}
    if low is not None and high is not None:
        low, high = _array(low)[both], _array(high)[both]
        known = np.isfinite(low) & np.isfinite(high)
        result["with_interval"] = int(known.sum())
        if known.any():
            result["coverage"] = float(((o >= low) & (o <= high))[known].mean())
            result["width_m"] = float((high - low)[known].mean())
    if not n:
        return result
    sse = float((error**2).sum())
    result.update(
        r2=_skill(sse, o - o.mean()), nse=_skill(sse, o - _means(o, owner)), pearson_r2=_squared_correlation(o, e),
        rmse=math.sqrt(sse / n), mae=float(np.abs(error).mean()), bias=float(error.mean()), max_error=float(np.abs(error).max()),
        days_off=int((np.abs(error) > limit_m).sum()),
    )  # fmt: skip
    return result


def intervals(
    when: Sequence[dt.datetime], observed: Any, estimated: Any, *, groups: Optional[Sequence] = None, seed: int = 0
) -> dict[str, float]:
    """95 % confidence intervals: `rmse_low`, `rmse_high`, `nse_low`, `nse_high`; NaN if the dates lie in fewer than `BLOCKS` quarters of a year.

    Errors of neighbouring dates are alike, so that whole quarters are drawn, with replacement, those of all reservoirs together (block bootstrap
    with fixed blocks: Carlstein 1986, 10.1214/aos/1176350057). Dates further apart are taken to be independent.
    """
    observed, estimated = _array(observed), _array(estimated)
    both = np.isfinite(observed) & np.isfinite(estimated)
    unknown = dict.fromkeys(("rmse_low", "rmse_high", "nse_low", "nse_high"), math.nan)
    quarters = np.array([4 * t.year + (t.month - 1) // 3 for t in when], np.int64)[both]
    owner = np.zeros(observed.size, np.int64) if groups is None else np.unique(np.asarray(groups, str), return_inverse=True)[1].reshape(-1)
    block = np.unique(quarters, return_inverse=True)[1].reshape(-1)
    count = int(block.max()) + 1 if block.size else 0
    if count < BLOCKS:
        return unknown
    o, owner = observed[both], owner[both]
    squares = (estimated[both] - o) ** 2
    spread = (o - _means(o, owner)) ** 2  # about the mean of all dates: the yardstick is not drawn
    sums = np.stack([np.bincount(block, weights, count) for weights in (np.ones(o.size), squares, spread)])
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWINGS)
    n, sse, sst = sums @ times.T
    rmse = np.percentile(np.sqrt(sse / n), [2.5, 97.5])
    result = {**unknown, "rmse_low": float(rmse[0]), "rmse_high": float(rmse[1])}
    if (sst > _ALIKE * n).all():
        nse = np.percentile(1 - sse / sst, [2.5, 97.5])
        result.update(nse_low=float(nse[0]), nse_high=float(nse[1]))
    return result


def grouped(estimates: Sequence[Estimate], limit_m: float = 1.0) -> list[dict[str, Any]]:
    """Rows of figures by `method`, `reservoir` ("" : all together, if there are several) and `part` (a key of `GROUPS`) over the estimates that
    are `comparable`; groups without any are left out."""
    usable = [e for e in estimates if comparable(e)]
    names = list(dict.fromkeys(e.reservoir for e in usable))
    rows = []
    for method in methods_of(usable):
        for name in ["", *names] if len(names) > 1 else names:
            own = [e for e in usable if e.method == method and name in ("", e.reservoir)]
            for part, (parts, _) in GROUPS.items():
                some = [e for e in own if e.part in parts]
                if some:
                    rows.append({"method": method, "reservoir": name, "part": part, **of(some, limit_m)})
    return rows


def of(estimates: Sequence[Estimate], limit_m: float = 1.0) -> dict[str, Any]:
    """`figures` and `intervals` of estimates that are `comparable`, of one method."""
    columns = [[getattr(e, key) for e in estimates] for key in ("observed_m", "level_m", "low_m", "high_m", "reservoir")]
    found = figures(*columns[:4], groups=columns[4], limit_m=limit_m)
    return {**found, **intervals([e.when for e in estimates], *columns[:2], groups=columns[4])}


def _array(values: Any) -> np.ndarray:
    return np.array([math.nan if v is None else v for v in values], np.float64)


def _means(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The mean of each value's group, at its place."""
    return (np.bincount(owner, values) / np.maximum(np.bincount(owner), 1))[owner]


def _skill(sse: float, deviations: np.ndarray) -> float:
    """1 - SSE / SST; NaN where the observed levels are all alike, up to rounding."""
    sst = float((deviations**2).sum())
    return 1 - sse / sst if sst > _ALIKE * deviations.size else math.nan


def _squared_correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float((a**2).sum() * (b**2).sum())
    return float((a * b).sum()) ** 2 / spread if spread > (_ALIKE * a.size) ** 2 else math.nan
