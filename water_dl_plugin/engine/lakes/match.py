"""Which lakes of a map are lakes of a reference inventory: found, missed, false, split, merged. Arithmetic on areas, no geometry.

A lake is the unit here, not a pixel: a map can have nearly all of the water and miss most of the lakes. Recall and precision of objects by
shares of their area as in Clinton et al. 2010 (10.14358/PERS.76.3.289).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..settings import LakesConfig
from .overlay import Overlay

CONFIDENCE = 1.959964  # two-sided 95 %
ROUNDING = 1e-6  # shares are sums of areas: exactly half must count as half


@dataclass
class Match:
    """One entry per lake of the inventory in `covered`, `found`, `split`, `merged`, `whole`, `alone` (one lake of the map for one of the
    inventory), `pieces`, `partner` (place of the lake of the map that shares most with it, -1: none), `iou` (with that one); one per lake of
    the map in `on` (share on lakes of the inventory), `right`, `merging`, `mated` (right, and on a found lake)."""

    covered: np.ndarray
    found: np.ndarray
    split: np.ndarray
    merged: np.ndarray
    whole: np.ndarray
    alone: np.ndarray
    pieces: np.ndarray
    partner: np.ndarray
    iou: np.ndarray
    on: np.ndarray
    right: np.ndarray
    merging: np.ndarray
    mated: np.ndarray


def match(over: Overlay, reference_m2: np.ndarray, map_m2: np.ndarray, counted: np.ndarray, config: LakesConfig) -> Match:
    """Judge all lakes. `over` lays the inventory (i) over the map (j), areas in m2; `counted` tells which lakes of the inventory count:
    a lake that does not (too small, outside the area of interest) makes no other one merged."""
    found_from, false_below, piece_from, whole_from = (
        share / 100 - ROUNDING for share in (config.found_share, config.false_share, config.piece_share, config.whole_share)
    )
    i, j, n, m = over.i, over.j, len(reference_m2), len(map_m2)
    share = over.area_m2 / reference_m2[i]
    found = over.covered_i >= found_from
    right = over.covered_j >= false_below
    pieces = np.bincount(i[share >= piece_from], minlength=n)
    bond = (share >= found_from) & counted[i]
    merging = np.bincount(j[bond], minlength=m) > 1
    merged = np.zeros(n, bool)
    merged[i[bond & merging[j]]] = True
    whole = np.zeros(n, bool)
    whole[i[(share >= whole_from) & right[j] & ~merging[j]]] = True
    partner, iou = np.full(n, -1), np.zeros(n)
    order = np.lexsort((-map_m2[j], over.area_m2, i))  # the last one of each lake shares most; of equals, the smaller one
    last = order[np.flatnonzero(np.diff(i[order], append=-1))]
    partner[i[last]] = j[last]
    iou[i[last]] = np.minimum(over.area_m2[last] / (reference_m2[i[last]] + map_m2[j[last]] - over.area_m2[last]), 1)  # rounding
    mated = np.zeros(m, bool)
    mated[j[found[i] & right[j]]] = True
    split = found & (pieces > 1)
    alone = found & ~split & ~merged & right[partner] if m else found
    whole &= found & ~split  # one that is merged, and has such a partner all the same, is split
    return Match(over.covered_i, found, split, merged, whole, alone, pieces, partner, iou, over.covered_j, right, merging, mated)


def scores(found: int, wanted: int, right: int, mapped: int) -> dict:
    """Recall, precision and F1 of lakes, with 95 % intervals (Wilson 1927, 10.1080/01621459.1927.10502953); NaN where undefined."""
    recall, precision = _share(found, wanted), _share(right, mapped)
    f1 = 0.0 if 0 in (recall, precision) else 2 * recall * precision / (recall + precision)  # nothing mapped, all missed: not undefined
    return {
        "recall": recall, "precision": precision, "f1": f1,
        "recall_interval": _wilson(found, wanted), "precision_interval": _wilson(right, mapped),
    }  # fmt: skip


def areas(result: Match, reference_m2: np.ndarray, map_m2: np.ndarray, counted: np.ndarray, counted_map: np.ndarray) -> dict:
    """Agreement of areas over the lakes that count: `iou` of everything, `matched_iou` of found lakes and the right ones on them, `area_bias` of
    the totals, `alone_area_bias` and `alone_iou` (median) of the lakes with just one partner. NaN where undefined."""
    one = result.alone & counted
    partner = result.partner[one]
    return {
        "iou": _iou(result.covered, reference_m2, counted, result.on, map_m2, counted_map),
        "matched_iou": _iou(result.covered, reference_m2, counted & result.found, result.on, map_m2, counted_map & result.mated),
        "area_bias": _bias(map_m2[counted_map].sum(), reference_m2[counted].sum()),
        "alone": int(one.sum()),
        "alone_area_bias": _bias(map_m2[partner].sum(), reference_m2[one].sum()),
        "alone_iou": float(np.median(result.iou[one])) if one.any() else math.nan,
    }


def _iou(covered, reference_m2, some, on, map_m2, some_map) -> float:
    """Of areas: 1 / (1 / precision + 1 / recall - 1), which is the common area through that of both together."""
    recall = _share(float((covered * reference_m2)[some].sum()), float(reference_m2[some].sum()))
    precision = _share(float((on * map_m2)[some_map].sum()), float(map_m2[some_map].sum()))
    if math.isnan(recall + precision):
        return math.nan
    return 1 / (1 / recall + 1 / precision - 1) if recall > 0 and precision > 0 else 0.0


def _bias(mapped: float, reference: float) -> float:
    return float((mapped - reference) / reference) if reference > 0 else math.nan


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _wilson(hits: int, total: int) -> tuple[float, float]:
    if not total:
        return math.nan, math.nan
    p, z2 = hits / total, CONFIDENCE**2 / total
    middle, half = (p + z2 / 2) / (1 + z2), math.sqrt(p * (1 - p) * z2 + z2**2 / 4) / (1 + z2)
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == total else middle + half)
