"""Rings of pixel edges -> multipolygons in map coordinates, smooth or along the pixels, valid in the sense of OGC and GEOS."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from osgeo import gdal, ogr

from ..errors import RasterError
from ..lakes.inventory import polygons as polygon_parts
from ..lakes.inventory import valid
from ..raster import Grid
from ..settings import VectorizeConfig
from .outlines import BESIDE_NODATA, EAST, NORTH, SOUTH, WEST, Rings
from .smooth import corners, pixel_rings, smooth_rings

BATCH = 400_000  # edges that are worked on at once


def shapes(rings: Rings, members: list, grid: Grid, config: VectorizeConfig) -> Iterator[tuple[ogr.Geometry, int, bool, bool]]:
    """(multipolygon, number of islands, does it touch the raster's edge, does it touch nodata) of each polygon of `members`."""
    edges = [int(rings.length[m].sum()) for m in members]
    start = 0
    while start < len(members):
        stop, total = start, 0
        while stop < len(members) and (stop == start or total + edges[stop] <= BATCH):
            total += edges[stop]
            stop += 1
        yield from _batch(rings, members[start:stop], grid, config)
        start = stop


def _batch(rings: Rings, members: list, grid: Grid, config: VectorizeConfig) -> Iterator[tuple[ogr.Geometry, int, bool, bool]]:
    ids = np.concatenate(members)
    codes = np.concatenate([rings.edges(i) for i in ids])
    start, length = rings.start[ids], rings.length[ids]
    sizes = np.array([len(m) for m in members])
    first = (np.cumsum(length) - length)[np.cumsum(sizes) - sizes]
    edge = np.logical_or.reduceat(_on_frame(codes, start, length, grid), first)
    nodata = np.logical_or.reduceat((codes & BESIDE_NODATA) > 0, first)
    if config.smoothing > 0:
        points = smooth_rings(codes, start, length, grid.width, grid.height, config.smoothing, config.simplify)
    else:
        points = pixel_rings(codes, start, length, grid.width)
    ahead = 0
    for k, size in enumerate(sizes):
        geometry = _multipolygon(points[ahead : ahead + size], grid)
        if config.smoothing == 0:
            geometry = _mended(geometry)
        yield geometry, int(size) - 1, bool(edge[k]), bool(nodata[k])
        ahead += size


def _on_frame(codes: np.ndarray, start: np.ndarray, length: np.ndarray, grid: Grid) -> np.ndarray:
    place, way = corners(codes, start, length, grid.width)
    col, row = place.T
    above, below = (way == EAST) & (row == 0), (way == WEST) & (row == grid.height)
    return above | below | ((way == NORTH) & (col == 0)) | ((way == SOUTH) & (col == grid.width))


def _multipolygon(points: list, grid: Grid) -> ogr.Geometry:
    """Outer ring counter-clockwise on the map, holes clockwise."""
    t = grid.transform
    mirrored = t[1] * t[5] - t[2] * t[4] < 0  # as on every map with north up: then what runs clockwise in pixels does so on the map
    data = [struct.pack("<BIIBII", 1, 6, 1, 1, 3, len(points))]
    for ring in points:
        ring = np.concatenate([ring, ring[:1]])
        ring = ring[::-1] if mirrored else ring
        col, row = ring.T
        place = np.stack([t[0] + col * t[1] + row * t[2], t[3] + col * t[4] + row * t[5]], axis=1)
        data += [struct.pack("<I", len(place)), place.astype("<f8").tobytes()]
    return ogr.CreateGeometryFromWkb(b"".join(data))


def _mended(geometry: ogr.Geometry) -> ogr.Geometry:
    """Along the pixels a polygon may touch itself at corners: there it is made of parts, or its hole touches its shore."""
    gdal.PushErrorHandler("CPLQuietErrorHandler")  # GEOS tells each place
    try:
        if geometry.IsValid():
            return geometry
        made = polygon_parts(valid(geometry))
        if made is None or not made.IsValid():
            raise RasterError(
                "GEOS can't make an outline along the pixels valid.", "Smooth the outlines, or let pixels hang together by sides."
            )
        return ogr.ForceToMultiPolygon(made)
    finally:
        gdal.PopErrorHandler()
