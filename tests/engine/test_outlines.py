"""Outlines traced strip by strip: against scipy's labels, for any raster, strip height and connectivity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from water_dl_plugin.engine.vectorize.outlines import BESIDE_CLASS, BESIDE_NODATA, EAST, NORTH, SOUTH, WEST, Tracer
from water_dl_plugin.engine.vectorize.smooth import pixel_rings
from water_dl_plugin.engine.vectorize.zones import Sums, Zones

EIGHT = np.ones((3, 3))


def trace(mask, joined=True, strip=100, beside=None, **more):
    tracer = Tracer(mask.shape[1], mask.shape[0], joined, **more)
    for row in range(0, len(mask), strip):
        part = mask[row : row + strip]
        known = np.zeros(part.shape, np.uint8) if beside is None else beside[row : row + strip]
        tracer.add(part, known, np.ones(mask.shape[1]))
    return tracer.finish()


@st.composite
def masks(draw, most=14):
    height, width = draw(st.integers(1, most)), draw(st.integers(1, most))
    share = draw(st.sampled_from([0, 0.2, 0.5, 0.7, 0.95, 1]))
    return np.random.default_rng(draw(st.integers(0, 2**31))).random((height, width)) < share


@settings(max_examples=250, deadline=None)
@given(masks(), st.booleans(), st.integers(1, 20))
def test_polygons_are_the_labelled_areas_and_their_holes(mask, joined, strip):
    rings = trace(mask, joined, strip)
    polygons = rings.polygons(0, 0)
    labels, count = ndimage.label(mask, EIGHT if joined else None)
    assert sorted(rings.area[p].sum() for p in polygons) == sorted(np.bincount(labels.ravel())[1:].tolist()) and len(polygons) == count
    land, lands = ndimage.label(np.pad(~mask, 1, constant_values=True), None if joined else EIGHT)
    assert sum(len(p) - 1 for p in polygons) == lands - 1
    sizes = sorted(np.bincount(land.ravel())[1:][np.arange(1, lands + 1) != land[0, 0]].tolist())
    assert sorted(-rings.area[hole] - inside(rings, polygons, hole) for p in polygons for hole in p[1:]) == sizes


def inside(rings, polygons, hole) -> int:
    """Pixels of the areas that lie in a hole and of all that lies in their holes."""
    return sum(rings.area[p[0]] for p in polygons if rings.around[p[0]] == hole)


@settings(max_examples=100, deadline=None)
@given(masks(), st.booleans(), st.integers(1, 20))
def test_painting_the_rings_gives_the_labels_back(mask, joined, strip):
    rings = trace(mask, joined, strip)
    polygons = rings.polygons(0, 0)
    zones = Zones(rings, polygons, np.arange(len(polygons)) + 1, batch=7)
    painted = np.concatenate([zones.paint(row, min(3, len(mask) - row)) for row in range(0, len(mask), 3)])
    labels, count = ndimage.label(mask, EIGHT if joined else None)
    pairs = {tuple(p) for p in np.stack([painted.ravel(), labels.ravel()], axis=1).tolist()}
    assert len(pairs - {(0, 0)}) == count == len({b for a, b in pairs if a}) and ((painted > 0) == mask).all()
    for row in range(len(mask)):
        wet = np.flatnonzero(mask[row])
        assert zones.columns(row, 1) == ((wet[0], wet[-1] + 1) if len(wet) else (0, 0))


@settings(max_examples=100, deadline=None)
@given(masks(), st.booleans(), st.integers(1, 20), st.integers(0, 9), st.integers(0, 9))
def test_small_areas_and_small_holes_go_whether_early_or_late(mask, joined, strip, area, hole):
    late = trace(mask, joined, strip)
    early = trace(mask, joined, strip, min_area=area, min_hole=hole if hole <= area else 0)
    found = [sorted((r.area[p].sum(), len(p)) for p in r.polygons(area, hole)) for r in (late, early)]
    assert found[0] == found[1]
    labels, _ = ndimage.label(mask, EIGHT if joined else None)
    sizes = np.bincount(labels.ravel())[1:]
    assert len(found[0]) >= (sizes >= area).sum() and all(size >= area or hole > 1 for size, _ in found[0])


def test_a_small_hole_with_a_pond_in_it_stays():
    mask = np.ones((7, 7), bool)
    mask[1:6, 1:6] = False
    mask[3, 3] = True
    rings = trace(mask)
    assert sorted(len(p) for p in rings.polygons(0, 26)) == [1, 2]  # the hole of 25 px would go, but for the pond
    assert sorted(len(p) for p in rings.polygons(2, 26)) == [1]  # the pond is too small, so that the hole goes
    assert [rings.area[p].sum() for p in rings.polygons(2, 25)] == [24]


def test_minimum_area_is_that_of_the_water_without_islands():
    mask = np.ones((5, 5), bool)
    mask[1:4, 1:4] = False
    assert len(trace(mask).polygons(16, 0)) == 1 and len(trace(mask).polygons(17, 0)) == 0
    assert [trace(mask).area[p].sum() for p in trace(mask).polygons(17, 10)] == [25]  # the hole is filled


def test_what_lies_beside_is_told_on_each_edge():
    mask = np.zeros((3, 4), bool)
    mask[1, 1] = True
    beside = np.zeros((3, 4), np.uint8)
    beside[1, 0], beside[0, 1], beside[1, 2] = BESIDE_NODATA, BESIDE_CLASS, BESIDE_NODATA
    for strip in (1, 2, 3):
        rings = trace(mask, strip=strip, beside=beside)
        codes = rings.edges(rings.polygons(0, 0)[0][0])
        assert set(codes.tolist()) == {EAST | BESIDE_CLASS, SOUTH | BESIDE_NODATA, WEST, NORTH | BESIDE_NODATA}


def test_pixel_outlines_have_corners_only():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 1:5] = True
    rings = trace(mask, strip=1)
    ring = rings.polygons(0, 0)[0]
    (points,) = pixel_rings(rings.edges(ring[0]), rings.start[ring], rings.length[ring], 6)
    assert sorted(map(tuple, points.tolist())) == [(1, 1), (1, 3), (5, 1), (5, 3)]


def test_parted_corners_are_not_joined():
    mask = np.array([[1, 0], [0, 1]], bool)
    tracer = Tracer(2, 2, True)
    tracer.add(mask, np.zeros((2, 2), np.uint8), np.ones(2), parted=[1 * 3 + 1])
    assert len(tracer.finish().polygons(0, 0)) == 2 and len(trace(mask).polygons(0, 0)) == 1
    tracer = Tracer(2, 2, True)  # also where two strips meet
    tracer.add(mask[:1], np.zeros((1, 2), np.uint8), np.ones(2))
    tracer.add(mask[1:], np.zeros((1, 2), np.uint8), np.ones(2), parted=[4])
    assert len(tracer.finish().polygons(0, 0)) == 2


def test_sums_do_not_see_what_is_not_valid():
    sums = Sums(3)
    numbers = np.array([[1, 1, 2], [0, 2, 2]])
    values, valid = np.array([[0.5, np.nan, 0.25], [np.nan, 0.75, np.inf]]), np.array([[True, False, True], [True, True, False]])
    with np.errstate(all="raise"):
        sums.add(numbers, values, valid)
        sums.add(numbers, values + 0.25, valid)
        sums.add(numbers, np.full((2, 3), 1.7e308), np.zeros((2, 3), bool))
    np.testing.assert_allclose(sums.mean(), [0.625, 0.625, np.nan])
    np.testing.assert_allclose(sums.least(), [0.5, 0.25, np.nan])


@pytest.mark.parametrize("strip", [64, 1000])
def test_a_long_river_is_one_piece(strip):
    rows, cols = np.mgrid[:600, :200]
    mask = np.abs(cols - 100 - 60 * np.sin(rows / 23)) < 4
    rings = trace(mask, strip=strip)
    assert [rings.area[p].sum() for p in rings.polygons(0, 0)] == [mask.sum()]
