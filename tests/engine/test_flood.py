"""From an elevation model to depth and extent: answers by hand, SciPy's labels, what is written, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from tests.helpers import crs, read_raster, utm, write_layer, write_raster
from water_dl_plugin.engine.errors import Cancelled, ConfigError, LabelError, OutputError, RasterError
from water_dl_plugin.engine.flood import extent as job
from water_dl_plugin.engine.flood.extent import flood_extent
from water_dl_plugin.engine.flood.runs import Runs, connected
from water_dl_plugin.engine.grid import Grid
from water_dl_plugin.engine.maps import ClassMap, open_map
from water_dl_plugin.engine.raster import Raster
from water_dl_plugin.engine.settings import FloodConfig
from water_dl_plugin.engine.windows import Window

ROWS, COLS = np.mgrid[:60, :41]
VALLEY = (2.0 * np.abs(COLS - 20) + 0.125 * (59 - ROWS)).astype(np.float32)
GRID = utm(41, 60)


def told(lines: list):
    return lambda share, line="": lines.append(line) if line else None


def flood(folder, heights, grid=GRID, nodata=None, lines=None, unit="", **given):
    """Run it: depth, extent, height above drainage or None, and the result."""
    data = {key: given.pop(key, "") for key in ("seeds", "streams")}
    dem = write_raster(folder / "dem.tif", heights, grid, nodata)
    config = FloodConfig(**given)
    paths = {name: str(folder / f"{name}.tif") for name in ("output", "depth", *(["hand"] if config.method == "hand" else []))}
    done = flood_extent(dem, config, **paths, **data, progress=told([] if lines is None else lines))
    planes = {name: read_raster(path)[0][0] for name, path in paths.items()}
    return planes["depth"], planes["output"], planes.get("hand"), done


def points(folder, *places, grid=GRID, name="seeds.gpkg"):
    return write_layer(folder / name, [(f"POINT({' '.join(map(str, grid.to_map(c + 0.5, r + 0.5)))})", {}) for r, c in places], grid.crs)


# --- what hangs together


@given(mask=arrays.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))), data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_hangs_together_is_what_scipy_says(mask, data):
    marked = data.draw(arrays.arrays(bool, mask.shape))
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    wanted = np.isin(labels, np.setdiff1d(labels[marked], 0))
    np.testing.assert_array_equal(connected(mask, marked), wanted)
    cut, runs = data.draw(st.integers(0, len(mask))), Runs(mask.shape[1])
    found = np.concatenate([runs.add(mask[:cut], marked[:cut]), runs.add(mask[cut:], marked[cut:])])
    roots = runs.join()
    chosen = np.isin(roots, roots[found])
    np.testing.assert_array_equal(np.concatenate([runs.paint(0, cut, chosen), runs.paint(cut, len(mask) - cut, chosen)]), wanted)


# --- a level surface


def test_depth_is_the_level_minus_the_ground(tmp_path):
    heights = VALLEY.copy()
    heights[5:8, 18:30] = -32768
    depth, extent, _, done = flood(tmp_path, heights, nodata=-32768, level=9.0)
    known = heights != -32768
    np.testing.assert_allclose(depth, np.where(known, np.maximum(9 - heights, 0), -9999))
    np.testing.assert_array_equal(extent, np.where(known, heights < 9, 255))
    wet = known & (heights < 9)
    assert done.pixels == wet.sum() and done.unknown == (~known).sum() and done.max_depth == pytest.approx(9)
    assert done.area_km2 == pytest.approx(wet.sum() * 1e-4, rel=1e-3) and done.mean_depth == pytest.approx(
        (9 - heights)[wet].mean(), rel=1e-4
    )


def test_extents_lie_in_each_other(tmp_path):
    before = np.zeros(VALLEY.shape, bool)
    for level in (1, 4, 7.5, 20):
        now = flood(tmp_path, VALLEY, level=float(level))[1] == 1
        assert (now >= before).all() and now.sum() > before.sum()
        before = now


def test_only_what_hangs_together_with_a_seed_is_flooded(tmp_path):
    """Two basins with a ridge; a gap in it of one corner lets water through."""
    heights = np.full((60, 41), 2.0, np.float32)
    heights[:, 20] = 10
    seeds = points(tmp_path, (3, 3))
    assert not flood(tmp_path, heights, level=5.0)[1][:, 20].any()
    extent = flood(tmp_path, heights, level=5.0, seeds=seeds)[1]
    assert (extent[:, :20] == 1).all() and not extent[:, 20:].any()
    heights[30:, 21] = 10
    heights[30, 20] = 2  # meets (29, 21) at a corner only
    extent = flood(tmp_path, heights, level=5.0, seeds=seeds)[1]
    np.testing.assert_array_equal(extent, heights < 5)


def test_a_meander_over_many_strips(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "STRIP", 1)
    rng = np.random.default_rng(0)
    heights = ndimage.gaussian_filter(rng.normal(0, 1, (700, 90)), 2).astype(np.float32)
    grid = utm(90, 700)
    labels, _ = ndimage.label(heights < 0.1, np.ones((3, 3)))
    place = tuple(np.argwhere(labels == np.bincount(labels[labels > 0]).argmax())[0])
    _, extent, _, _ = flood(tmp_path, heights, grid, level=0.1, seeds=points(tmp_path, place, grid=grid))
    np.testing.assert_array_equal(extent, labels == labels[place])
    assert extent[:256].any() and extent[-100:].any()


def test_whole_numbers_and_no_crs(tmp_path):
    grid = Grid(41, 60, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    depth, _, _, done = flood(tmp_path, VALLEY.astype(np.int16), grid, level=3.5)
    assert depth.max() == 3.5 and done.area_km2 == pytest.approx(done.pixels * 1e-6)
    _, _, above, _ = flood(tmp_path, VALLEY, grid, method="hand", stage=3.0, stream_area=5e-4)
    assert above[-1, 20] == 0


# --- height above the nearest drainage


def test_valley_is_flooded_by_its_height_above_the_stream(tmp_path):
    depth, extent, above, done = flood(tmp_path, VALLEY, method="hand", stage=3.0, stream_area=0.03)  # 300 pixels: from row 7 on
    np.testing.assert_allclose(above[8:], (2.0 * np.abs(COLS - 20))[8:], atol=1e-5)
    np.testing.assert_allclose(depth[8:], np.maximum(3 - 2.0 * np.abs(COLS - 20), 0)[8:], atol=1e-5)
    np.testing.assert_array_equal(extent == 1, depth > 0)
    assert (above[extent != 255] >= 0).all() and done.most_hand == pytest.approx(above.max())


def test_areas_count_on_the_ellipsoid(tmp_path):
    """At 60 degrees north a pixel is half as wide as high: half as much area gathers as on a square."""
    grid = Grid(41, 60, (10.0, 0.001, 0, 60.0, 0, -0.001), crs(4326))
    area = float(grid.areas_m2()[:8].sum()) / 1e6
    above = flood(tmp_path, VALLEY, grid, method="hand", stage=1.0, stream_area=area * 0.999)[2]
    assert above[7, 20] == 0 and above[6, 20] > 0


def test_drawn_streams_are_the_drainage(tmp_path):
    """A line beside the valley's bed, in another CRS: heights count from it."""
    line = [GRID.to_map(24.5, r) for r in (10, 59.99)]
    streams = write_layer(tmp_path / "streams.gpkg", [(f"LINESTRING({','.join(f'{x!r} {y!r}' for x, y in line)})", {})], GRID.crs)
    above = flood(tmp_path, VALLEY, method="hand", stage=1.0, streams=streams)[2]
    assert not above[12:, 24].any() and above[30, 23] == 0  # which would else run away from the line
    np.testing.assert_allclose(above[20:59, 30], 12, atol=0.2)


def test_ground_behind_a_dam(tmp_path):
    """Filled, the valley behind the dam counts as high as its crest, and is flooded from the crest on; carved, the dam is taken for open."""
    heights = VALLEY.copy()
    crest = heights[40, 20] + 3
    heights[40] = np.maximum(heights[40], crest)
    mouth = points(tmp_path, (59, 20), name="mouth.gpkg")
    extent = flood(tmp_path, heights, method="hand", stage=3.0, streams=mouth)[1]
    assert extent[30, 20] == 0 and extent[41, 20] == 1
    depth, _, above, _ = flood(tmp_path, heights, method="hand", stage=7.0, streams=mouth)
    assert above[30, 20] == pytest.approx(crest) and depth[30, 20] == pytest.approx(7 - heights[30, 20])
    depth, extent, above, _ = flood(tmp_path, heights, method="hand", stage=3.0, streams=mouth, pits="carve")
    assert above[30, 20] == pytest.approx(heights[30, 20]) and extent[30, 20] == 0 and extent[36, 20] == 1
    assert depth[40].max() == pytest.approx(3 - heights[39, 20])  # where the dam is cut


def test_ground_that_drains_elsewhere_is_not_known(tmp_path):
    lines: list = []
    depth, extent, above, done = flood(tmp_path, VALLEY, method="hand", stage=1.0, streams=points(tmp_path, (30, 20)), lines=lines)
    assert (above[31:] == -9999).all() and (extent[31:] == 255).all() and (depth[31:] == -9999).all() and done.unknown >= 29 * 41
    assert any("drain out of the elevation model" in line and line.startswith("Warning") for line in lines)


def test_numpy_gives_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    heights = (VALLEY + rng.normal(0, 0.5, VALLEY.shape)).astype(np.float32)
    one = flood(tmp_path, heights, method="hand", stage=2.0, stream_area=0.02)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    lines: list = []
    other = flood(tmp_path, heights, method="hand", stage=2.0, stream_area=0.02, lines=lines)
    assert any("numba makes it" in line for line in lines)
    for a, b in zip(one[:3], other[:3]):
        np.testing.assert_array_equal(a, b)


# --- what is written, what is refused


def test_what_is_written_can_be_taken_on(tmp_path):
    from osgeo import gdal

    flood(tmp_path, VALLEY, level=4.0)
    data = gdal.Open(str(tmp_path / "dem.tif"), gdal.GA_Update)
    data.GetRasterBand(1).SetUnitType("ft")
    data = None
    flood_extent(str(tmp_path / "dem.tif"), FloodConfig(level=4.0), output=str(tmp_path / "e.tif"), depth=str(tmp_path / "d.tif"))
    with Raster(str(tmp_path / "e.tif")) as raster, Raster(str(tmp_path / "d.tif")) as depth:
        reader = open_map(raster)
        assert isinstance(reader, ClassMap) and [c.name for c in reader.classes] == ["dry", "water"]
        np.testing.assert_array_equal(reader.read(Window(0, 0, 41, 60))[0], VALLEY < 4)
        assert depth.bands[0].unit == "ft" and depth.bands[0].nodata == -9999 and depth.dtype == np.float32
        assert raster.tags()["WATERDL_SOURCE"] == "dem.tif" and depth.bands[0].name == "water depth"


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({}, ConfigError, "level is not set"),
        ({"level": -1.0}, ConfigError, "below the whole elevation model, which reaches from 0 to 47.3"),
        ({"level": 0.0}, ConfigError, "below the whole"),
        ({"method": "hand", "stage": 0.0, "stream_area": 0.01}, ConfigError, "stage is 0"),
        ({"method": "hand", "stream_area": 5.0}, ConfigError, "largest contributing area is 0.24"),
        ({"level": 3.0, "seeds": [(3, 3)]}, LabelError, "lowest ground at a seed is 41"),
        ({"level": 3.0, "seeds": [(3, 300)]}, LabelError, "seeds lie outside"),
        ({"method": "hand", "streams": [(3, 300)]}, LabelError, "streams lie outside"),
        ({"level": 3.0, "seeds": "/none.gpkg"}, LabelError, "seeds can't be used"),
    ],
)
def test_refused(tmp_path, given, error, words):
    given = {key: points(tmp_path, *value) if isinstance(value, list) else value for key, value in given.items()}
    with pytest.raises(error, match=words) as refused:
        flood(tmp_path, VALLEY, **given)
    assert refused.value.remedy or "Check" in refused.value.message
    assert not {p.suffix for p in tmp_path.iterdir()} - {".gpkg", ".tif"} and not (tmp_path / "output.tif").exists()


def test_outputs_are_checked_first(tmp_path):
    dem = write_raster(tmp_path / "dem.tif", VALLEY, GRID)
    config = FloodConfig(level=3.0)
    for wanted, error in (
        ({}, ConfigError), ({"output": dem}, ConfigError), ({"output": str(tmp_path / "a.tif"), "depth": str(tmp_path / "a.tif")}, ConfigError),
        ({"output": str(tmp_path / "none" / "a.tif")}, OutputError), ({"hand": str(tmp_path / "h.tif")}, ConfigError),
    ):  # fmt: skip
        with pytest.raises(error):
            flood_extent(dem, config, **wanted)
    with pytest.raises(RasterError):
        flood_extent(str(tmp_path / "none.tif"), config, output=str(tmp_path / "a.tif"))


def test_a_void_model_and_a_large_one(tmp_path):
    void = np.full((60, 41), -1, np.float32)
    for method in ({"level": 3.0}, {"method": "hand"}):
        with pytest.raises((ConfigError, RasterError), match=r"nodata only|Nothing is flooded"):
            flood(tmp_path, void, nodata=-1, **method)
    grid = utm(1100, 1000)
    dem = write_raster(tmp_path / "large.tif", np.zeros((1000, 1100), np.uint8), grid)
    with pytest.raises(ConfigError, match=r"1 million pixels; 1 are allowed") as refused:
        flood_extent(dem, FloodConfig(method="hand", largest=1), depth=str(tmp_path / "d.tif"))
    assert "LARGEST" in refused.value.remedy


def test_all_flooded_is_told(tmp_path):
    lines: list = []
    flood(tmp_path, VALLEY, level=100.0, lines=lines)
    assert any(line.startswith("Warning: all of the elevation model is flooded") for line in lines)
    lines = []
    flood(tmp_path, VALLEY, level=5.0, streams="/not/looked/at.gpkg", lines=lines)
    assert "Warning: the method bathtub does not use streams." in lines


@pytest.mark.parametrize("given", [{"level": 5.0}, {"method": "hand", "stream_area": 0.01}])
def test_cancel_leaves_nothing(tmp_path, given):
    dem = write_raster(tmp_path / "dem.tif", VALLEY, GRID)

    def stop(share, line=""):
        if share > 0.75 or (share > 0.3 and given.get("level")):
            raise Cancelled()

    with pytest.raises(Cancelled):
        flood_extent(dem, FloodConfig(**given), output=str(tmp_path / "o.tif"), depth=str(tmp_path / "d.tif"), progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["dem.tif"]
