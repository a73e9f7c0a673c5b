"""Water areas out of class and probability rasters: true areas, what clouds hide, classes of all kinds, tiles of one pass."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pytest
from osgeo import gdal, ogr, osr

from tests import bowls
from tests.helpers import crs, utm, write_raster
from water_dl_plugin.engine.errors import Cancelled, ConfigError
from water_dl_plugin.engine.grid import Grid
from water_dl_plugin.engine.level import masks
from water_dl_plugin.engine.level.physical import areas
from water_dl_plugin.engine.level.physical.areas import HIDDEN, LAND, WATER
from water_dl_plugin.engine.level.series import Reservoir, Scene

CONE = bowls.cone()


def disc(level: float) -> float:
    """Area in m2 of the cone's water at a level."""
    return math.pi * ((level - bowls.FLOOR) / 0.05) ** 2


def test_areas_of_a_cone_are_those_of_circles(tmp_path):
    level = [53.0, 60.0, 66.0]
    found, dropped = areas.water(bowls.scenes(tmp_path, CONE, level), bowls.reservoir(), bowls.config())
    assert [a.area_m2 for a in found] == pytest.approx([disc(h) for h in level], rel=0.03) and dropped == []
    assert [(a.when, a.filled_share, a.hidden_share, a.unsure_m2) for a in found] == [(bowls.when(k), 0, 0, 0) for k in range(3)]
    assert found[0].source == "water_000.tif" and found[0].sensor == "sentinel-2"
    assert found[2].pixels == pytest.approx(found[2].area_m2 / 100, rel=1e-3)


def test_areas_are_true_in_degrees_and_in_mercator(tmp_path):
    """60 degrees north a pixel of Web Mercator covers a quarter of its square."""
    for epsg, pixel, origin, metres2 in (
        (3857, 20.0, (1_000_000.0, 8_399_738.0), 100.0),
        (4326, 1e-4, (9.0, 60.0), 1e-8 * 111_412 * 55_800),
    ):
        grid = Grid(60, 60, (origin[0], pixel, 0.0, origin[1], 0.0, -pixel), crs(epsg))
        pixels = np.zeros((60, 60), np.uint8)
        pixels[20:40, 20:40] = 1
        scene = Scene(write_raster(tmp_path / f"w{epsg}.tif", pixels, grid), bowls.when(0))
        left, bottom, right, top = grid.bounds
        wkt = f"POLYGON(({left} {bottom},{right} {bottom},{right} {top},{left} {top},{left} {bottom}))"
        lake = Reservoir("x", bytes(ogr.CreateGeometryFromWkt(wkt).ExportToWkb()), crs(epsg))
        found, _ = areas.water([scene], lake, bowls.config())
        assert found[0].area_m2 == pytest.approx(400 * metres2, rel=0.01), epsg


def test_a_polygon_in_another_crs_and_its_buffer(tmp_path):
    grid = utm(100, 100)
    lake = bowls.reservoir(300.0)
    shape = ogr.CreateGeometryFromWkb(lake.polygon)
    source, target = osr.SpatialReference(lake.crs), osr.SpatialReference(crs(4326))
    for reference in (source, target):
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    shape.Transform(osr.CoordinateTransformation(source, target))
    degrees = Reservoir("x", bytes(shape.ExportToWkb()), crs(4326))
    for metres in (0.0, 50.0):
        pixels = [masks.inside(r, grid, metres).sum() * 100 for r in (lake, degrees)]
        assert pixels[0] == pytest.approx(math.pi * (300 + metres) ** 2, rel=0.01)
        assert abs(pixels[0] - pixels[1]) <= 500
    geographic = Grid(200, 100, (*shape.GetEnvelope()[:1], 6e-5, 0.0, shape.GetEnvelope()[3], 0.0, -6e-5), crs(4326))
    wide = Grid(220, 120, (geographic.transform[0] - 6e-4, 6e-5, 0, geographic.transform[3] + 6e-4, 0, -6e-5), crs(4326))
    assert wide.areas_m2()[masks.inside(degrees, wide, 40.0)].sum() == pytest.approx(math.pi * 340**2, rel=0.02)


def test_holes_stay_holes():
    grid = utm(50, 50)
    left, bottom, right, top = grid.bounds

    def ring(off):
        return f"({left + off} {bottom + off},{right - off} {bottom + off},{right - off} {top - off},{left + off} {top - off},{left + off} {bottom + off})"

    shape = ogr.CreateGeometryFromWkt(f"MULTIPOLYGON(({ring(50)},{ring(150)}))")
    found = masks.inside(Reservoir("x", bytes(shape.ExportToWkb()), grid.crs), grid)
    assert found.sum() == 40 * 40 - 20 * 20 and not found[25, 25]


# ------------------------------------------------------------------------------------------------------------------------- clouds


def half(number: int):
    """The left, right, upper or lower half; every fifth date is clear."""
    gap = np.zeros((bowls.SIZE, bowls.SIZE), bool)
    gap[[(slice(None), slice(50)), (slice(None), slice(50, None)), (slice(50),), (slice(50, None),), (slice(0),)][number % 5]] = True
    return gap


def test_what_is_hidden_is_filled_in_by_where_water_stood_on_other_dates(tmp_path):
    level = bowls.levels(40)
    found, dropped = areas.water(bowls.scenes(tmp_path, CONE, level, half), bowls.reservoir(), bowls.config(max_hidden=60))
    assert dropped == [] and len(found) == 40
    assert np.mean([abs(a.area_m2 - disc(h)) for a, h in zip(found, level)]) < 0.03 * disc(70)
    assert [a.hidden_share for a in found][:5] == pytest.approx([0.5, 0.5, 0.5, 0.5, 0], abs=0.01)
    assert [a.filled_share for a in found][:5] == pytest.approx([0.5, 0.5, 0.5, 0.5, 0], abs=0.05)


def test_with_many_dates_the_filled_in_area_is_as_good_as_seen():
    """Half of the reservoir hidden on four dates of five: levels of 16 m range come back to 15 cm; by occurrence alone it is 18."""
    inner = np.hypot(*(np.mgrid[:100, :100] - 49.5)) < 48
    level = bowls.levels(120)
    seen = [np.where(half(k), HIDDEN, h >= CONE)[inner].astype(np.uint8) for k, h in enumerate(level)]
    filled = areas.fill(seen, np.full(inner.sum(), 100.0))
    got = [bowls.FLOOR + 0.05 * math.sqrt(f.water.sum() * 100 / math.pi) for f in filled]
    assert np.sqrt(np.mean((np.array(got) - level) ** 2)) < 0.15


def test_a_side_that_is_clouded_whenever_it_is_full_is_not_taken_for_dry():
    """Counted once, the hidden side has water on few of the dates that show it."""
    n = 200
    height = np.concatenate([np.linspace(0, 10, n), np.linspace(0, 10, n)])  # two sides of the same ground
    level = np.tile([2.0, 4.0, 6.0, 8.0, 9.0], 6)
    seen = []
    for k, h in enumerate(level):
        plane = (height <= h).astype(np.uint8)
        if h > 5 and k % 6:
            plane[n:] = HIDDEN
        seen.append(plane)
    got = [f.water.sum() for f in areas.fill(seen, np.ones(2 * n))]
    want = [(height <= h).sum() for h in level]
    assert np.abs(np.subtract(got, want)).max() <= 2


def test_where_nothing_visible_tells_the_threshold_the_area_says_how_unsure_it_is():
    height = np.linspace(0, 10, 101)
    seen = [(height <= h).astype(np.uint8) for h in range(1, 10)]
    seen.append(np.where(height <= 3.05, WATER, HIDDEN).astype(np.uint8))  # all that is seen is water: the level is 3 or more
    told = areas.fill(seen, np.full(101, 2.0))[-1]
    assert told.unsure_m2 > 50 and 31 < told.water.sum() < 101
    assert areas.fill(seen, np.full(101, 2.0))[0].unsure_m2 == 0


def test_too_hidden_and_contradicting_dates_are_dropped_with_the_reason(tmp_path):
    level = bowls.levels(12)
    scenes = bowls.scenes(tmp_path, CONE, level, lambda k: np.ones(CONE.shape, bool) & (np.arange(100) < 80) if k == 3 else None)
    blind = (CONE <= 70).astype(np.uint8)  # cloud taken for land in a wedge of a full reservoir
    blind[:, 55:] = 0
    blind[:20] = 1
    write_raster(scenes[7].path, blind, utm(100, 100), 255)
    found, dropped = areas.water(scenes, bowls.reservoir(), bowls.config())
    assert len(found) == 10 and {d.name for d in dropped} == {"water_003.tif", "water_007.tif"}
    reasons = {d.name: d.reason for d in dropped}
    assert "hidden" in reasons["water_003.tif"] and "contradicts" in reasons["water_007.tif"]
    assert all(d.what == "scene" and d.reservoir == "Bowl" and d.when for d in dropped)


def test_noise_of_single_pixels_does_not_matter_much(tmp_path):
    rng, level = np.random.default_rng(0), bowls.levels(25)
    scenes = []
    for k, h in enumerate(level):
        pixels = ((h >= CONE) ^ (rng.random(CONE.shape) < 0.03)).astype(np.uint8)
        pixels[half(k)] = 255
        scenes.append(Scene(write_raster(tmp_path / f"n{k}.tif", pixels, utm(100, 100), 255), bowls.when(k)))
    found, _ = areas.water(scenes, bowls.reservoir(), bowls.config(max_hidden=60))
    error = np.array([a.area_m2 - disc(h) for a, h in zip(found, level)])
    assert len(found) == 25 and np.sqrt(np.mean(error**2)) < 0.04 * disc(70)


# ------------------------------------------------------------------------------------------------------------------------ rasters


def classed(tmp_path, pixels, **told) -> Scene:
    return Scene(write_raster(tmp_path / "c.tif", pixels, utm(100, 100), **told), bowls.when(0))


def counted(scene, **changed) -> float:
    found, dropped = areas.water([scene], bowls.reservoir(), bowls.config(**changed))
    assert found, dropped
    return found[0].area_m2


def test_classes_by_name_and_number(tmp_path):
    water = CONE <= 60
    want = pytest.approx(disc(60), rel=0.03)
    named = json.dumps([{"value": 3, "name": "lake water", "colour": [0, 0, 9]}, {"value": 5, "name": "forest", "colour": [0, 9, 0]}])
    tagged = classed(tmp_path, np.where(water, 3, 5).astype(np.uint8), tags={"WATERDL_CLASSES": named})
    assert counted(tagged) == want and counted(tagged, water_class="Lake water") == want and counted(tagged, water_class="3") == want
    assert counted(tagged, water_class="forest") == pytest.approx(math.pi * 480**2 - disc(60), rel=0.03)
    plain = classed(tmp_path, np.where(water, 7, 4).astype(np.int16))
    assert counted(plain, water_class="7") == want and counted(plain, water_class="7, 9") == want
    real = classed(tmp_path, np.where(water, 2, 1).astype(np.float32))
    assert counted(real, water_class="2") == want


def test_category_names_and_classes_that_hide(tmp_path):
    pixels = (CONE <= 60).astype(np.uint8)
    pixels[:, :10] = 2
    scene = classed(tmp_path, pixels)
    data = gdal.Open(scene.path, gdal.GA_Update)
    data.GetRasterBand(1).SetCategoryNames(["land", "open water", "Cloud shadow"])
    data = None
    found, _ = areas.water([scene], bowls.reservoir(), bowls.config())
    assert found[0].area_m2 == pytest.approx(disc(60), rel=0.03) and 0.01 < found[0].hidden_share < 0.1
    assert counted(scene, water_class="cloud shadow") == pytest.approx(math.pi * 480**2 * found[0].hidden_share, rel=0.01)


def test_values_that_do_not_say_what_is_water_are_refused(tmp_path):
    for pixels in (np.where(CONE <= 60, 2, 1).astype(np.uint8), np.where(CONE <= 60, 255, 0).astype(np.uint8)):
        found, dropped = areas.water([classed(tmp_path, pixels)], bowls.reservoir(), bowls.config())
        assert not found and "does not say which of them is water" in dropped[0].reason
    index = np.where(CONE <= 60, 0.4, -0.3).astype(np.float32)
    assert "outside 0..1" in areas.water([classed(tmp_path, index)], bowls.reservoir(), bowls.config())[1][0].reason
    bands = np.zeros((3, 100, 100), np.uint16)
    assert "3 bands" in areas.water([classed(tmp_path, bands)], bowls.reservoir(), bowls.config())[1][0].reason


def test_probabilities_are_counted_from_the_threshold_on(tmp_path):
    chance = np.where(CONE <= 56, 0.95, np.where(CONE <= 60, 0.6, 0.1)).astype(np.float32)
    scene = classed(tmp_path, chance)
    assert counted(scene) == pytest.approx(disc(60), rel=0.03)
    assert counted(scene, threshold=0.8) == pytest.approx(disc(56), rel=0.04)
    assert counted(classed(tmp_path, chance, tags={"WATERDL_THRESHOLD": "0.7"})) == pytest.approx(disc(56), rel=0.04)
    named = json.dumps([{"value": 0, "name": "water"}, {"value": 1, "name": "soil"}, {"value": 2, "name": "tree"}])
    bands = np.stack([chance, (1 - chance) / 2, (1 - chance) / 2])
    assert counted(classed(tmp_path, bands, tags={"WATERDL_CLASSES": named})) == pytest.approx(disc(60), rel=0.03)


def test_probabilities_are_laid_on_finer_pixels_bilinearly(tmp_path):
    ramp = np.tile(np.linspace(1.0, 0.0, 5, dtype=np.float32), (5, 1))  # 40 m pixels; 0.5 in the middle of the third
    path = write_raster(tmp_path / "p.tif", ramp, utm(5, 5, 40.0))
    with masks.WaterMap(path) as found:
        water, known = found.on(utm(40, 40, 5.0))
    assert water[20].tolist() == [True] * 20 + [False] * 20 and known.all()


def test_tiles_of_one_pass_are_one_date(tmp_path):
    level = 62.0
    left, right = ((level >= CONE).astype(np.uint8) for _ in range(2))
    left[:, 45:], right[:, :55] = 255, 255
    right[:, 45:55] = 255
    left[:, 45:55] = (level >= CONE)[:, 45:55]
    grid = utm(100, 100)
    scenes = [
        Scene(write_raster(tmp_path / "left.tif", left, grid, 255), bowls.when(0)),
        Scene(write_raster(tmp_path / "right.tif", right, grid, 255), bowls.when(0) + dt.timedelta(seconds=25)),
    ]
    later = Scene(write_raster(tmp_path / "later.tif", left, grid, 255), bowls.when(1))
    found, _ = areas.water([scenes[1], later, scenes[0]], bowls.reservoir(), bowls.config(max_hidden=60))
    assert [a.source for a in found] == ["left.tif", "later.tif"]
    found, _ = areas.water(scenes, bowls.reservoir(), bowls.config())
    assert len(found) == 1 and found[0].hidden_share == 0 and found[0].area_m2 == pytest.approx(disc(level), rel=0.03)
    assert found[0].source == "left.tif"


def test_scenes_of_other_windows_zones_and_pixels_are_laid_on_one_grid(tmp_path):
    level = bowls.levels(4)
    scenes = bowls.scenes(tmp_path, CONE, level)
    moved = np.full((140, 150), 255, np.uint8)  # the same pixels, another corner
    moved[20:120, 30:130] = level[1] >= CONE
    write_raster(scenes[1].path, moved, Grid(150, 140, (400_000.0 - 300, 10, 0, 4_500_000.0 + 200, 0, -10), crs(32612)), 255)
    fine = np.kron((level[2] >= CONE).astype(np.uint8), np.ones((2, 2), np.uint8))
    write_raster(scenes[2].path, fine, utm(200, 200, 5.0), 255)
    gdal.Warp(str(tmp_path / "zone.tif"), scenes[3].path, dstSRS="EPSG:32613", dstNodata=255)
    scenes[3] = Scene(str(tmp_path / "zone.tif"), scenes[3].when)
    series, dropped = areas.read(scenes, bowls.reservoir(), bowls.config())
    found, _ = areas.measured(series, 0.5)
    assert dropped == [] and [a.area_m2 for a in found] == pytest.approx([disc(h) for h in level], rel=0.04)
    assert series.grid.pixel_size == (10, 10) and any("other pixels" in n for n in series.notes)
    assert all(a.hidden_share < 0.005 for a in found)


def test_water_that_goes_on_beyond_the_polygon_is_told(tmp_path):
    scenes = bowls.scenes(tmp_path, CONE, bowls.levels(10))
    small, _ = areas.read(scenes, bowls.reservoir(250.0), bowls.config())
    right, _ = areas.read(scenes, bowls.reservoir(480.0), bowls.config())
    assert any("beyond the polygon" in n for n in small.notes) and right.notes == []


def test_another_place_unreadable_files_and_cancel(tmp_path):
    scenes = bowls.scenes(tmp_path, CONE, [60.0, 62.0])
    far = Grid(100, 100, (900_000.0, 10, 0, 4_500_000.0, 0, -10), crs(32612))
    elsewhere = Scene(write_raster(tmp_path / "far.tif", np.ones((100, 100), np.uint8), far), bowls.when(5))
    (tmp_path / "broken.tif").write_bytes(b"no raster")
    found, dropped = areas.water(
        [*scenes, elsewhere, Scene(str(tmp_path / "broken.tif"), bowls.when(6))], bowls.reservoir(), bowls.config()
    )
    assert len(found) == 2 and [d.name for d in dropped] == ["broken.tif"]
    assert areas.read([elsewhere], bowls.reservoir(), bowls.config()) == (None, [])

    def stop(_fraction, _message=""):
        raise Cancelled()

    with pytest.raises(Cancelled):
        areas.water(scenes, bowls.reservoir(), bowls.config(), stop)


def test_a_series_that_memory_can_not_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(areas, "MOST", 15_000)
    with pytest.raises(ConfigError, match="times as large"):
        areas.water(bowls.scenes(tmp_path, CONE, [60.0, 62.0]), bowls.reservoir(), bowls.config())


def test_fill_knows_nothing_of_pixels_that_are_never_seen():
    seen = [np.array([WATER, LAND, HIDDEN], np.uint8), np.array([WATER, WATER, HIDDEN], np.uint8)]
    assert [f.water.tolist() for f in areas.fill(seen, np.ones(3))] == [[True, False, False], [True, True, False]]
