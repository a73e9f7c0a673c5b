"""Where water runs, and how high ground lies above it: answers by hand, slow straightforward programs, scikit-image, and both roads alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from water_dl_plugin.engine import jit
from water_dl_plugin.engine.errors import Cancelled
from water_dl_plugin.engine.flood.flow import STEPS, Flow

ROADS = [False, pytest.param(True, marks=pytest.mark.skipif(not jit.works(), reason="numba is not installed"))]
road = pytest.mark.parametrize("compiled", ROADS, ids=["numpy", "numba"])
quick = settings(max_examples=40, deadline=None)


def terrain(values):
    """Small rasters of these heights with pits, flats and voids."""
    heights = arrays.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=values.map(float))
    return heights.map(lambda h: np.where(h == 5, np.nan, h).astype(np.float32))


STEPPED = terrain(st.integers(0, 6))


def rough(rows=60, cols=45, seed=0, voids=0.0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols]
    z = 20 * np.sin(y / 9) * np.cos(x / 7) + rng.normal(0, 2, (rows, cols))
    z[rng.random(z.shape) < voids] = np.nan
    return z.astype(np.float32)


def neighbours(shape, r, c):
    return [(r + dr, c + dc) for dr, dc in STEPS if 0 <= r + dr < shape[0] and 0 <= c + dc < shape[1]]


def outside_of(z):
    """Voids that hang together with the border."""
    found, rows, cols = np.zeros(z.shape, bool), *z.shape
    todo = [(r, c) for r in range(rows) for c in range(cols) if (r in (0, rows - 1) or c in (0, cols - 1)) and np.isnan(z[r, c])]
    while todo:
        r, c = todo.pop()
        if not found[r, c]:
            found[r, c] = True
            todo += [n for n in neighbours(z.shape, r, c) if np.isnan(z[n])]
    return found


def slow_fill(z):
    """The lowest level at which water of each cell gets out: relaxation until nothing changes. Outside: NaN."""
    out, ground = outside_of(z), np.where(np.isnan(z), -np.inf, z)
    level = np.full(z.shape, np.inf)
    for r, c in np.argwhere(~out):
        beside = neighbours(z.shape, r, c)
        if len(beside) < 8 or any(out[n] for n in beside):
            level[r, c] = ground[r, c]
    while True:
        before = level.copy()
        for r, c in np.argwhere(~out):
            beside = [level[n] for n in neighbours(z.shape, r, c) if not out[n]]
            level[r, c] = min(level[r, c], max(ground[r, c], min(beside, default=np.inf)))
        if np.array_equal(before, level):
            return np.where(out, np.nan, level)


def ways(flow):
    """For each cell the cells that its water runs through, itself first."""
    to = flow.receivers()
    for cell in np.argwhere(to != -2):
        way = [tuple(cell)]
        while to[way[-1]] >= 0:
            way.append(divmod(int(to[way[-1]]), to.shape[1]))
            assert len(way) <= to.size, "a circle"
        yield way


@road
@given(z=STEPPED)
@quick
def test_filled_heights_are_those_of_slow_relaxation(compiled, z):
    found = Flow(z, compiled=compiled).corrected(z, "fill")
    known = ~np.isnan(z)
    np.testing.assert_array_equal(found[known], slow_fill(z)[known])


def test_filled_heights_are_scikit_images():
    morphology = pytest.importorskip("skimage.morphology")
    z = rough(200, 150)
    start = np.where(np.pad(np.zeros((198, 148), bool), 1, constant_values=True), z, z.max())
    np.testing.assert_array_equal(Flow(z).corrected(z, "fill"), morphology.reconstruction(start, z, "erosion", footprint=np.ones((3, 3))))


@road
@given(z=STEPPED)
@quick
def test_water_runs_down_the_steepest_way_and_leaves(compiled, z):
    flow, filled = Flow(z, 3.0, 2.0, compiled=compiled), slow_fill(z)
    to, out = flow.receivers(), outside_of(z)
    np.testing.assert_array_equal(to == -2, out)
    for way in ways(flow):  # ends: no circle
        r, c = way[0]
        levels = [filled[p] for p in way]
        assert all(a >= b for a, b in zip(levels, levels[1:]))
        beside = neighbours(z.shape, *way[-1])
        assert len(beside) < 8 or any(out[n] for n in beside)  # leaves at the border or to the outside
        slopes = {
            n: (filled[r, c] - filled[n]) / np.hypot(2.0 * (n[0] - r), 3.0 * (n[1] - c)) for n in neighbours(z.shape, r, c) if not out[n]
        }
        if slopes and max(slopes.values()) > 0:
            assert slopes[way[1]] == pytest.approx(max(slopes.values()))


@road
def test_areas_and_heights_along_each_way(compiled):
    z = rough(voids=0.02)
    areas = np.random.default_rng(1).uniform(1, 2, z.shape)
    flow = Flow(z, compiled=compiled)
    gathered, wanted = flow.accumulate(areas), np.zeros(z.shape)
    for way in ways(flow):
        for cell in way:
            wanted[cell] += areas[way[0]]
    np.testing.assert_allclose(gathered, wanted, rtol=1e-12)
    streams = gathered > 80
    for pits in ("fill", "carve"):
        bed = flow.corrected(z, pits)
        base = flow.drainage_height(bed, streams)
        for way in ways(flow):
            stream = next((cell for cell in way if streams[cell]), None)
            if not np.isnan(z[way[0]]):
                assert np.isnan(base[way[0]]) if stream is None else base[way[0]] == bed[stream], way
        above = (bed - base)[~np.isnan(z) & ~np.isnan(base)]
        assert above.min() == 0 and not above[above < 0].size
        assert not (bed - base)[streams & ~np.isnan(z)].any()
        assert (bed >= z)[~np.isnan(z)].all() if pits == "fill" else (bed <= z)[~np.isnan(z)].all()


@given(z=terrain(st.floats(-3, 3, width=32)) | STEPPED)
@quick
@pytest.mark.skipif(not jit.works(), reason="numba is not installed")
def test_both_roads_give_the_same(z):
    assert_same(z)


@pytest.mark.skipif(not jit.works(), reason="numba is not installed")
def test_both_roads_give_the_same_on_larger_ground():
    """Whole numbers and noise: flats, and a heap that must grow."""
    assert_same(rough(300, 260, voids=0.01))
    assert_same(np.random.default_rng(3).integers(0, 4, (150, 170)).astype(np.float32))


def assert_same(z):
    one, other = (Flow(z, 2.0, 3.0, compiled=compiled) for compiled in (False, True))
    np.testing.assert_array_equal(one.receivers(), other.receivers())
    areas = np.arange(z.size, dtype=float).reshape(z.shape)
    gathered = one.accumulate(areas)
    np.testing.assert_array_equal(gathered, other.accumulate(areas))
    for pits in ("fill", "carve"):
        beds = [flow.corrected(z, pits) for flow in (one, other)]
        np.testing.assert_array_equal(*beds)
        streams = gathered > 4 * areas.mean()
        np.testing.assert_array_equal(one.drainage_height(beds[0], streams), other.drainage_height(beds[1], streams))


@road
def test_minus_zero_is_zero(compiled):
    z = np.zeros((12, 12), np.float32)
    signed = np.where(np.random.default_rng(0).random(z.shape) < 0.5, np.float32(-0.0), z)
    np.testing.assert_array_equal(Flow(signed, compiled=compiled).receivers(), Flow(z, compiled=compiled).receivers())


@road
def test_valley(compiled):
    """Water of a V valley runs straight to its middle: a cell lies above it by its side's height."""
    rows, cols = np.mgrid[:30, :21]
    z = (2.0 * np.abs(cols - 10) + 0.125 * (29 - rows)).astype(np.float32)
    flow = Flow(z, compiled=compiled)
    gathered = flow.accumulate(np.ones(z.shape))
    np.testing.assert_array_equal(gathered[:, 10], 21.0 * np.arange(1, 31))
    bed = flow.corrected(z)
    np.testing.assert_array_equal(bed, z)
    np.testing.assert_array_equal(bed - flow.drainage_height(bed, cols == 10), 2 * np.abs(cols - 10))


@road
def test_dam_is_filled_or_carved(compiled):
    """A valley with a dam 5 m high: behind it the ground rises to the crest, or the crest sinks to the lowest ground behind it."""
    rows, cols = np.mgrid[:20, :11]
    z = (10.0 * np.abs(cols - 5) + 0.5 * (19 - rows)).astype(np.float32)
    z[12] = np.maximum(z[12], z[12, 5] + 5)
    flow = Flow(z, compiled=compiled)
    filled, carved = flow.corrected(z, "fill"), flow.corrected(z, "carve")
    np.testing.assert_array_equal(filled[:13, 5], np.maximum(z[:13, 5], 8.5))  # crest at 3.5 + 5
    np.testing.assert_array_equal(filled[13:], z[13:])
    np.testing.assert_array_equal(carved[:, 5], 0.5 * (19 - np.arange(20)) + np.where(np.arange(20) == 12, 0.5, 0))
    np.testing.assert_array_equal(np.delete(carved, 5, axis=1), np.delete(z, 5, axis=1))


@road
def test_pit_runs_over_its_lower_saddle(compiled):
    z = np.full((9, 15), 10, np.float32)
    z[4, 4:11] = [9, 8, 4, 1, 4, 7, 9]  # a trough
    z[4, :4], z[4, 11:] = 9.5, [6, 5, 4, 3]  # two ways out; the western one is higher
    flow = Flow(z, compiled=compiled)
    way = next(w for w in ways(flow) if w[0] == (4, 7))
    assert way[-1] == (4, 14) and all(r == 4 for r, _ in way)
    assert flow.corrected(z, "fill")[4, 7] == 9 and flow.corrected(z, "carve")[4, 10] == 1


@road
def test_voids_swallow_nothing(compiled):
    """A hole in a valley's bed lets all water through; one at the border lets it out."""
    rows, cols = np.mgrid[:40, :21]
    whole = (2.0 * np.abs(cols - 10) + 0.25 * (39 - rows)).astype(np.float32)
    z = whole.copy()
    z[15:20, 8:13] = np.nan
    gathered = Flow(z, compiled=compiled).accumulate(np.ones(z.shape))
    assert gathered[39, 10] == z.size == Flow(whole, compiled=compiled).accumulate(np.ones(z.shape))[39, 10]
    bed = Flow(z, compiled=compiled).corrected(z)
    assert np.array_equal(bed[~np.isnan(z)], z[~np.isnan(z)])
    z[20:, 10] = np.nan
    flow = Flow(z, compiled=compiled)
    gathered = flow.accumulate(np.ones(z.shape))
    assert not gathered[15:, 10].any() and gathered[14, 10] >= 15 * 21
    assert gathered[flow.receivers() == -1].sum() == np.count_nonzero(~np.isnan(z))


@road
def test_known_drainage_is_followed(compiled):
    """A stream drawn along a slope takes the water that would have crossed it."""
    rows, _ = np.mgrid[:30, :30]
    z = (30.0 - rows).astype(np.float32)
    line = rows == 15
    flow = Flow(z, lowered=line, compiled=compiled)
    gathered = flow.accumulate(np.ones(z.shape))
    assert gathered[line].max() >= 15 * 30 / 2 and gathered[17:].max() <= 15
    base = flow.drainage_height(flow.corrected(z), line)
    np.testing.assert_array_equal(base[:16], 15)
    assert np.isnan(base[17:]).all()


@road
def test_cancel_is_heard(compiled):
    def stop(share):
        raise Cancelled()

    with pytest.raises(Cancelled):
        Flow(rough(), compiled=compiled, tick=stop)
    flow = Flow(rough(), compiled=compiled)
    for work in (lambda: flow.corrected(rough(), tick=stop), lambda: flow.accumulate(rough(), stop)):
        with pytest.raises(Cancelled):
            work()
