"""Smooth outlines: valid, apart from each other, and of the same area, for any raster."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from osgeo import ogr
from scipy import ndimage

from tests.engine.test_outlines import masks, trace
from water_dl_plugin.engine.vectorize import smooth
from water_dl_plugin.engine.vectorize.outlines import BESIDE_CLASS, Tracer


def rounded(rings, width, height, **more) -> list[tuple[ogr.Geometry, int]]:
    """Each polygon, smooth, in pixels, and the pixels that it has."""
    polygons = rings.polygons(0, 0)
    ids = np.concatenate([*polygons, np.zeros(0, int)]).astype(int)
    if not len(ids):
        return []
    codes = np.concatenate([rings.edges(i) for i in ids])
    lines = iter(smooth.smooth_rings(codes, rings.start[ids], rings.length[ids], width, height, **more))
    made = []
    for members in polygons:
        geometry = ogr.Geometry(ogr.wkbPolygon)
        for _ in members:
            ring, points = ogr.Geometry(ogr.wkbLinearRing), next(lines)
            for x, y in np.concatenate([points, points[:1]]):
                ring.AddPoint_2D(x, -y)
            geometry.AddGeometry(ring)
        made.append((geometry, int(rings.area[members].sum())))
    return made


def together(geometries) -> ogr.Geometry:
    whole = ogr.Geometry(ogr.wkbMultiPolygon)
    for geometry in geometries:
        whole.AddGeometry(geometry)
    return whole


@settings(max_examples=200, deadline=None)
@given(masks(), st.booleans(), st.booleans(), st.sampled_from([0, 0.05, 0.4]), st.sampled_from([0.25, 0.5]))
def test_outlines_are_valid_never_meet_and_keep_their_area(mask, joined, zoomed, tolerance, reach):
    if zoomed:
        mask = ndimage.zoom(mask.astype(float), 3, order=1) > 0.5
    made = rounded(trace(mask, joined), *mask.shape[::-1], reach=reach, tolerance=tolerance)
    assert all(geometry.IsValid() for geometry, _ in made)
    assert together(g for g, _ in made).IsValid()  # in a valid multipolygon parts meet at points only
    for geometry, pixels in made:
        assert geometry.GetArea() == pytest.approx(pixels, rel=0.01)
        left, right, bottom, top = geometry.GetEnvelope()
        assert left >= 0 and bottom >= -mask.shape[0] and right <= mask.shape[1] and top <= 0


@pytest.mark.parametrize("joined", [True, False])
def test_bold_simplification_makes_no_outlines_cross(joined, monkeypatch):
    monkeypatch.setattr(smooth, "ENOUGH", 100)  # areas may change: only crossing is looked at
    for seed, share in ((0, 0.5), (1, 0.6), (2, 0.4)):
        mask = np.random.default_rng(seed).random((70, 70)) < share
        made = rounded(trace(mask, joined), 70, 70, tolerance=5)
        assert together(g for g, _ in made).IsValid()
        points = sum(g.GetGeometryRef(i).GetPointCount() for g, _ in made for i in range(g.GetGeometryCount()))
        assert points < 0.7 * sum(trace(mask, joined).length)
    rows, cols = np.mgrid[:80, :80]
    away = np.hypot(rows - 40, cols - 40)
    mask = (away > 30) | ((np.abs(away - 28) < 0.5) & ((rows + cols) % 3 == 0))  # a round island with ponds along its shore
    made = rounded(trace(mask, joined), 80, 80, tolerance=5)
    assert len(made) > 20 and together(g for g, _ in made).IsValid()


def test_smooth_outlines_stay_within_reach_of_the_pixels():
    mask = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(80, 90)), 3) > 0
    for reach in (0.1, 0.3, 0.5):
        for (geometry, _), (pixels, _) in zip(rounded(trace(mask), 90, 80, reach=reach), along_pixels(mask)):
            # the points stay within reach of their sides, and between two of them a corner is cut by up to a quarter of a pixel's diagonal
            assert pixels.Buffer(reach + 0.36).Contains(geometry) and geometry.Buffer(reach + 0.36).Contains(pixels)


def along_pixels(mask) -> list:
    rings = trace(mask)
    made = []
    for members in rings.polygons(0, 0):
        codes = np.concatenate([rings.edges(i) for i in members])
        whole = ogr.Geometry(ogr.wkbPolygon)
        for points in smooth.pixel_rings(codes, rings.start[members], rings.length[members], mask.shape[1]):
            ring = ogr.Geometry(ogr.wkbLinearRing)
            for x, y in np.concatenate([points, points[:1]]):
                ring.AddPoint_2D(x, -y)
            whole.AddGeometry(ring)
        made.append((whole.Buffer(0), None))
    return made


def test_a_round_lake_becomes_round():
    rows, cols = np.mgrid[:80, :80]
    mask = np.hypot(rows - 39.7, cols - 40.2) < 30
    ((geometry, pixels),) = rounded(trace(mask), 80, 80)
    perimeter = geometry.Boundary().Length()
    assert 4 * np.pi * geometry.GetArea() / perimeter**2 > 0.98  # of the pixels' outline: 0.62
    assert perimeter == pytest.approx(2 * np.pi * 30, rel=0.01) and geometry.GetArea() == pytest.approx(pixels, rel=0.004)


def test_a_straight_shore_becomes_straight_with_few_points():
    rows, cols = np.mgrid[:60, :200]
    mask = rows > 20 + cols / 4
    ((geometry, _),) = rounded(trace(mask), 200, 60)
    assert geometry.GetGeometryRef(0).GetPointCount() < 90  # 300 sides of pixels
    plain = rounded(trace(mask), 200, 60, tolerance=0)[0][0]
    assert plain.SymmetricDifference(geometry).GetArea() < 0.1 * 210


def test_the_frame_of_the_raster_stays_straight_and_its_corners_sharp():
    ((geometry, _),) = rounded(trace(np.ones((5, 7), bool)), 7, 5)
    assert geometry.Equals(ogr.CreateGeometryFromWkt("POLYGON((0 0,7 0,7 -5,0 -5,0 0))"))
    mask = np.zeros((6, 6), bool)
    mask[:, :3] = True
    ((half, _),) = rounded(trace(mask), 6, 6)
    assert half.Equals(ogr.CreateGeometryFromWkt("POLYGON((0 0,3 0,3 -6,0 -6,0 0))"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.integers(2, 4), st.integers(1, 9))
def test_neighbouring_classes_share_their_border(seed, joined, classes, strip):
    """Polygons of two classes of interest have no area in common, and where they lie side by side no gap."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, classes, (9, 10)).repeat(2, 0).repeat(2, 1)
    made = []
    for k in range(1, classes):
        tracer = Tracer(20, 18, joined)
        for row in range(0, 18, strip):
            part = index[row : row + strip]
            beside = np.where((part > 0) & (part != k), BESIDE_CLASS, 0).astype(np.uint8)
            tracer.add(part == k, beside, np.ones(20), parted(index, k, row, strip) if joined else ())
        made += [geometry for geometry, _ in rounded(tracer.finish(), 20, 18)]
    assert all(geometry.IsValid() for geometry in made)
    for i, one in enumerate(made):
        for other in made[:i]:
            assert not one.Intersects(other) or one.Intersection(other).GetArea() < 1e-9
    union = together(made).UnionCascaded() if made else None
    wet = sum(geometry.GetArea() for geometry in made)
    if union is not None:
        assert union.GetArea() == pytest.approx(wet)


def parted(index, k, row, strip):
    from water_dl_plugin.engine.vectorize.run import _parted

    both = np.concatenate([index[row - 1 : row] if row else np.full((1, index.shape[1]), -1), index[row : row + strip]])
    return _parted(both, k, list(range(1, k)), row, index.shape[1])
