"""Two inventories over each other: which lakes share ground, and how much. A hundred thousand against as many in well under a minute."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from osgeo import gdal, ogr

from ..progress import Progress, silent
from .ellipsoid import area_m2
from .inventory import Inventory, polygons, valid

NODE = 16  # boxes per node of the index
LARGE_M = 5000.0  # below, the scale of the CRS hardly changes within a lake
MANY_VERTICES = 512  # an outline of more vertices is cut into pieces first: else each of its thousand neighbours meets all of it


@dataclass
class Overlay:
    """Pairs of lakes that share an area: `i` and `j` are places in the two inventories, `area_m2` is shared by them. `covered_i` and
    `covered_j` are the shares (0..1) of each lake that any lake of the other inventory covers."""

    i: np.ndarray
    j: np.ndarray
    area_m2: np.ndarray
    covered_i: np.ndarray
    covered_j: np.ndarray
    failed: int = 0  # pairs that GEOS could not intersect


def overlay(first: Inventory, second: Inventory, progress: Progress = silent) -> Overlay:
    """Lay two inventories over each other; both must be in the same CRS. Shared areas are those on the ellipsoid."""
    (a, owner_a), (b, owner_b) = _pieces(first), _pieces(second)
    at_a, at_b = meeting(_boxes(a), _boxes(b))
    key, pair = np.unique(owner_a[at_a] * max(len(second), 1) + owner_b[at_b], return_inverse=True)
    i, j = np.divmod(key, max(len(second), 1))
    rivals_i, rivals_j = np.bincount(i, minlength=len(first)), np.bincount(j, minlength=len(second))
    shared, failed, scale = np.zeros(len(key)), 0, _scales(first)
    ground: tuple = (defaultdict(list), defaultdict(list))  # what is shared, for lakes with several partners: those may overlap each other
    gdal.PushErrorHandler("CPLQuietErrorHandler")
    try:
        for step, (k, p, q) in enumerate(zip(pair.tolist(), at_a.tolist(), at_b.tolist())):
            if step % 1000 == 0:
                progress(0.9 * step / len(pair), "")
            common, good = _intersection(a[p], b[q])
            failed += not good
            if common is None:
                continue
            shared[k] += _area(common, scale[i[k]], first.crs)
            for owner, rivals, kept in ((i[k], rivals_i, ground[0]), (j[k], rivals_j, ground[1])):
                if rivals[owner] > 1:
                    kept[owner].append((k, common))
        progress(0.9, "")
        covered = [_covered(i, shared, ground[0], first), _covered(j, shared, ground[1], second)]
    finally:
        gdal.PopErrorHandler()
    real = shared > 0
    return Overlay(i[real], j[real], shared[real], *covered, failed=failed)


def meeting(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of all pairs of boxes `(n, 4)` and `(m, 4)` (xmin, ymin, xmax, ymax) that touch.

    A packed R-tree over the second ones (Leutenegger et al. 1997, sort-tile-recursive, 10.1109/ICDE.1997.582015), asked level by level
    for many boxes at once.
    """
    if not len(a) or not len(b):
        return np.zeros(0, int), np.zeros(0, int)
    order, levels = _tree(b)
    found: list = []
    for start in range(0, len(a), 8192):
        query = np.arange(start, min(start + 8192, len(a)))
        node = np.zeros(len(query), int)
        for boxes in reversed(levels):
            query = np.repeat(query, NODE)
            node = (node[:, None] * NODE + np.arange(NODE)).reshape(-1)
            one, other = a[query], boxes[node]
            hit = (one[:, 0] <= other[:, 2]) & (one[:, 2] >= other[:, 0]) & (one[:, 1] <= other[:, 3]) & (one[:, 3] >= other[:, 1])
            query, node = query[hit], node[hit]
        found.append((query, order[node]))
    return np.concatenate([q for q, _ in found]), np.concatenate([n for _, n in found])


def _tree(boxes: np.ndarray) -> tuple[np.ndarray, list]:
    """Order of the boxes in the leaves, and the boxes of all levels from the leaves up; each level is filled up to whole nodes."""
    middle = np.where(np.isfinite(boxes[:, :2] + boxes[:, 2:]), boxes[:, :2] + boxes[:, 2:], 0)
    slab = np.empty(len(boxes), int)
    slab[np.argsort(middle[:, 0], kind="stable")] = np.arange(len(boxes)) // (NODE * math.ceil(math.sqrt(math.ceil(len(boxes) / NODE))))
    order = np.lexsort((middle[:, 1], slab))
    levels, level = [], boxes[order]
    while True:
        room = -len(level) % NODE
        level = np.concatenate([level, np.tile([np.inf, np.inf, -np.inf, -np.inf], (room, 1))])
        levels.append(level)
        if len(level) == NODE:
            return order, levels
        groups = level.reshape(-1, NODE, 4)
        level = np.concatenate([groups[:, :, :2].min(axis=1), groups[:, :, 2:].max(axis=1)], axis=1)


def _pieces(lakes: Inventory) -> tuple[list, np.ndarray]:
    """Geometries of few vertices that together are the lakes, and the lake that each belongs to."""
    pieces, owner = [], []
    for number, geometry in enumerate(lakes.geometries):
        cut = _cut(geometry)
        pieces += cut
        owner += [number] * len(cut)
    return pieces, np.array(owner, int)


def _cut(geometry, depth: int = 16) -> list:
    """Halves of halves, until none has more than `MANY_VERTICES`."""
    if geometry.IsEmpty():
        return []
    if depth == 0 or geometry.WkbSize() <= 16 * MANY_VERTICES:
        return [geometry]
    left, right, bottom, top = geometry.GetEnvelope()
    x, y = (left + right) / 2, (bottom + top) / 2
    wide = right - left > top - bottom
    halves = ((left, bottom, x, top), (x, bottom, right, top)) if wide else ((left, bottom, right, y), (left, y, right, top))
    found = []
    for half in halves:
        part, good = _intersection(geometry, _rectangle(*half))
        if not good:
            return [geometry]  # slow is better than wrong
        found += _cut(part, depth - 1) if part is not None else []
    return found


def _rectangle(left: float, bottom: float, right: float, top: float):
    ring = ogr.Geometry(ogr.wkbLinearRing)
    for x, y in ((left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)):
        ring.AddPoint_2D(x, y)
    box = ogr.Geometry(ogr.wkbPolygon)
    box.AddGeometry(ring)
    return box


def _intersection(a, b) -> tuple:
    """(what two polygons share or None if it has no area, could it be found at all?)"""
    for one, other in ((a, b), (None, None)):
        if one is None:  # rounding has made one of them invalid
            one, other = polygons(valid(a)), polygons(valid(b))
            if one is None or other is None:
                break
        try:
            common = one.Intersection(other)
        except RuntimeError:  # only where GDAL's exceptions are switched on
            common = None
        if common is not None:
            return polygons(common), True
    return None, False


def _covered(owner: np.ndarray, shared: np.ndarray, ground: dict, lakes: Inventory) -> np.ndarray:
    """Share of each lake that its partners cover together; ground that several of them cover counts once."""
    area, scale = np.bincount(owner, shared, minlength=len(lakes)), _scales(lakes)
    for number, parts in ground.items():
        if len({pair for pair, _ in parts}) < 2:
            continue
        collection = ogr.Geometry(ogr.wkbGeometryCollection)
        for _, part in parts:
            collection.AddGeometry(part)
        whole = polygons(collection)  # overlapping parts are joined
        if whole is not None:
            area[number] = min(area[number], _area(whole, scale[number], lakes.crs))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lakes.area_m2 > 0, np.clip(area / lakes.area_m2, 0, 1), 0.0)


def _scales(lakes: Inventory) -> np.ndarray:
    """Area on the ellipsoid through that in the plane of the CRS, per lake; NaN for large ones, in which it is not the same everywhere."""
    plane = np.array([g.GetArea() for g in lakes.geometries])
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = lakes.area_m2 / plane
        extent = (lakes.boxes[:, 2:] - lakes.boxes[:, :2]).max(axis=1, initial=0) * np.sqrt(scale)
    return np.where(extent < LARGE_M, scale, np.nan)


def _area(geometry, scale: float, crs: str) -> float:
    return geometry.GetArea() * scale if math.isfinite(scale) else area_m2(geometry, crs)


def _boxes(geometries: list) -> np.ndarray:
    boxes = np.array([g.GetEnvelope() for g in geometries], np.float64).reshape(-1, 4)
    return boxes[:, [0, 2, 1, 3]]
