"""Lakes now against lakes then: new, grown, shrunk, same, gone.

Two polygons are the same water if they overlap by a least share of the smaller one. Where lakes split or merge, each lake now inherits from each
lake then as much area as its share of what that lake then has in common with all lakes now; so the old areas and the changes of all lakes add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..lakes.inventory import Inventory
from ..lakes.overlay import overlay
from ..progress import Progress, silent
from ..settings import VectorizeConfig

NEW, GROWN, SHRUNK, SAME, GONE, UNMAPPED = "new", "grown", "shrunk", "same", "gone", "unmapped"
FIELDS = (("status", str), ("relation", str), ("old_id", int), ("old_area_m2", float), ("change_m2", float), ("change_percent", float))


@dataclass
class Changes:
    """`now`: the fields of each lake now. `gone`: places of the lakes then that are no more."""

    now: list
    gone: np.ndarray


def compare(now: Inventory, then: Inventory, perimeter_m: np.ndarray, pixel_m: float, config: VectorizeConfig, progress: Progress = silent) -> Changes:  # fmt: skip
    """Both inventories in one CRS. `perimeter_m` of the lakes now, `pixel_m` the side of a pixel, for the noise of outlines."""
    i, j, shared = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    if len(now) and len(then):
        over = overlay(now, then, progress)
        real = over.area_m2 >= config.least_overlap / 100 * np.minimum(now.area_m2[over.i], then.area_m2[over.j])
        i, j, shared = over.i[real], over.j[real], over.area_m2[real]
    common = np.bincount(j, shared, minlength=len(then))
    inherited = np.bincount(i, then.area_m2[j] * shared / common[j], minlength=len(now))
    partners, pieces = np.bincount(i, minlength=len(now)), np.bincount(j, minlength=len(then))
    split = np.zeros(len(now), bool)
    split[i[pieces[j] > 1]] = True
    largest = np.full(len(now), -1)
    order = np.argsort(shared, kind="stable")
    largest[i[order]] = j[order]  # the last one written has the largest overlap
    tolerance = np.maximum(config.same_within / 100 * inherited, config.outline_noise * pixel_m * perimeter_m)
    change = now.area_m2 - inherited
    fields = []
    for k in range(len(now)):
        relation = ", ".join(word for word, true in (("split", split[k]), ("merged", partners[k] > 1)) if true)
        status = NEW if not partners[k] else SAME if abs(change[k]) <= tolerance[k] else GROWN if change[k] > 0 else SHRUNK
        old = partners[k] > 0
        fields.append({
            "status": status, "relation": relation, "old_id": int(then.numbers[largest[k]]) if old else None,
            "old_area_m2": float(inherited[k]), "change_m2": float(change[k]),
            "change_percent": float(100 * change[k] / inherited[k]) if old else None,
        })  # fmt: skip
    return Changes(fields, np.flatnonzero(pieces == 0))


def lost(then: Inventory, place: int, mapped: bool) -> dict:
    """The fields of a lake then that no lake now overlaps: `gone`, or `unmapped` if this map has no data there."""
    area = float(then.area_m2[place])
    known = {"change_m2": -area, "change_percent": -100.0} if mapped else {"change_m2": None, "change_percent": None}
    return {"status": GONE if mapped else UNMAPPED, "relation": "", "old_id": int(then.numbers[place]), "old_area_m2": area, **known}
