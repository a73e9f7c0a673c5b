"""The road of `assessdem`: known errors on files, GDAL's slopes as reference, windows of any size, and rasters of every bad kind."""

from __future__ import annotations

import csv
import math
import re

import numpy as np
import pytest
from osgeo import gdal

from tests import helpers
from tests.engine.test_coregister import hills
from water_dl_plugin.engine.dem.quality import assess as road
from water_dl_plugin.engine.dem.quality.assess import assess_dem
from water_dl_plugin.engine.dem.quality.compare import Frame, inside
from water_dl_plugin.engine.errors import BandError, Cancelled, ConfigError, GridMismatchError, LabelError
from water_dl_plugin.engine.raster import Raster
from water_dl_plugin.engine.settings import AssessDemConfig
from water_dl_plugin.engine.windows import Window

GRID = helpers.utm(220, 180, 10.0)
TRUTH = hills(np.arange(220), np.arange(180)[:, None]).astype(np.float32)
ERROR = (1.5 * np.sin(np.arange(220) / 3) * np.cos(np.arange(180)[:, None] / 5) + 0.25).astype(np.float32)
VOID = -9999.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files: the truth with a void, a DEM on its grid with another, a coarse DEM of 40 m, land classes in another CRS."""
    folder = tmp_path_factory.mktemp("dem")
    truth, dem = TRUTH.copy(), TRUTH + ERROR
    truth[20:30, 40:60] = dem[100:110, 100:140] = VOID
    land = np.zeros((18, 22), np.uint8)
    land[:, 8:], land[9:, 15:] = 2, 3
    return {
        "truth": helpers.write_raster(folder / "truth.tif", truth, GRID, VOID), "dem": helpers.write_raster(folder / "dem.tif", dem, GRID, VOID),
        "coarse": helpers.write_raster(folder / "coarse.tif", TRUTH.reshape(45, 4, 55, 4).mean(axis=(1, 3)), helpers.utm(55, 45, 40.0)),
        "land": helpers.write_raster(folder / "land.tif", land, helpers.utm(22, 18, 100.0), 0, tags={"WATERDL_CLASSES": '[{"value": 2, "name": "forest"}]'}),
    }  # fmt: skip


def valid() -> np.ndarray:
    there = np.ones(TRUTH.shape, bool)
    there[20:30, 40:60] = there[100:110, 100:140] = False
    return there


def written(path, pixels, grid=GRID, nodata=None) -> str:
    return helpers.write_raster(path, pixels, grid, nodata)


def gdaldem(kind: str, path: str, nodata: float = VOID) -> np.ndarray:
    """Slope or aspect as the program gives it, NaN where it gives none."""
    done = gdal.DEMProcessing("", path, kind, format="MEM").ReadAsArray().astype(float)
    return np.where(done == VOID, np.nan, done)


def test_known_errors(made, tmp_path):
    found = assess_dem(made["dem"], made["truth"], AssessDemConfig(), error=str(tmp_path / "error.tif"))
    e, z, whole = ((TRUTH + ERROR).astype(np.float64) - TRUTH)[valid()], TRUTH[valid()].astype(np.float64), found.dem.whole
    assert whole["pixels"] == e.size == 180 * 220 - 200 - 400
    assert whole["rmse"] == pytest.approx(np.sqrt((e**2).mean()), rel=1e-9) and whole["mae"] == pytest.approx(np.abs(e).mean(), rel=1e-9)
    assert whole["bias"] == pytest.approx(e.mean(), rel=1e-9) and whole["std"] == pytest.approx(e.std(), rel=1e-9)
    assert whole["le90"] == pytest.approx(np.percentile(np.abs(e), 90), rel=1e-3)
    assert whole["nmad"] == pytest.approx(1.4826 * np.median(np.abs(e - np.median(e))), rel=2e-3)
    assert whole["r2"] == pytest.approx(1 - (e**2).sum() / ((z - z.mean()) ** 2).sum(), rel=1e-12)
    pixels, there, transform = helpers.read_raster(tmp_path / "error.tif")
    assert np.array_equal(there, valid()) and transform == GRID.transform and pixels.dtype == np.float32
    assert np.allclose(pixels[0][there], e, atol=1e-6)


def test_slope_and_aspect_as_gdaldem(made):
    config = AssessDemConfig(slope_limits="8", aspect_slope=4.0)
    found = assess_dem(made["dem"], made["truth"], config)
    slope, own = (gdaldem("slope", made[name]) for name in ("truth", "dem"))
    known = np.isfinite(slope) & np.isfinite(own) & valid()
    error = (own - slope)[known]
    assert 30_000 < known.sum() < valid().sum()
    scale = 1 / 0.9996  # UTM: true distances, which gdaldem does not know, are a little longer or shorter
    near = {"rel": 2 * (scale - 1) + 2e-3, "abs": 2e-3}
    assert found.dem.whole["slope_rmse"] == pytest.approx(np.sqrt((error**2).mean()), **near)
    assert found.dem.whole["slope_mae"] == pytest.approx(np.abs(error).mean(), **near)
    assert found.dem.whole["slope_bias"] == pytest.approx(error.mean(), **near)
    aspect, mine = (gdaldem("aspect", made[name]) for name in ("truth", "dem"))
    turned = np.abs((mine - aspect + 180) % 360 - 180)[known & (slope >= 4)]
    assert found.dem.whole["aspect_mae"] == pytest.approx(turned.mean(), rel=5e-3)
    steep = dict(found.by_slope)["\u2265 8°"][0]
    assert steep["pixels"] == pytest.approx((slope[valid() & np.isfinite(slope)] >= 8).sum(), rel=2e-3)
    own_steep = (np.nan_to_num(slope) >= 8) & valid()
    e = ((TRUTH + ERROR).astype(np.float64) - TRUTH)[own_steep]
    assert steep["rmse"] == pytest.approx(np.sqrt((e**2).mean()), rel=1e-3)
    assert sum(f[0]["pixels"] for _, f in found.by_slope) == valid().sum()


def test_slope_in_degrees_of_longitude(tmp_path):
    """A plane that rises 1 m per pixel to the north: a pixel of 0.001 degrees is 110.6 m high at the equator and 111.2 m at 50 degrees."""
    for latitude, metre in ((0.0, 110.574), (50.0, 111.23)):
        grid = helpers.Grid(60, 40, (8.0, 0.001, 0, latitude + 0.02, 0, -0.001), helpers.crs(4326))
        with Raster(written(tmp_path / "plane.tif", np.repeat(-np.arange(40.0)[:, None], 60, axis=1), grid)) as raster:
            window, frame = Window(10, 10, 20, 20), Frame(grid, Window(0, 0, 60, 40))
            rise, aspect = frame.terrain(frame.read(road.Surface(raster, "", ""), window), window)
        assert np.degrees(np.arctan(1 / metre)) == pytest.approx(rise.mean(), rel=2e-4) and np.ptp(rise) < 1e-4
        assert np.allclose(aspect, 180)


def test_pixels_of_degrees_are_narrower_farther_north():
    """60 degrees of latitude in one raster: at each row the pixels are as wide as there, whatever the window."""
    frame = Frame(helpers.Grid(100, 12_000, (8.0, 0.005, 0, 60.0, 0, -0.005), helpers.crs(4326)), Window(0, 0, 100, 12_000))
    for row, latitude in ((0, 60.0), (3100, 44.5), (11_990, 0.05)):
        dx, dy = frame.spacing(Window(0, row, 30, 5))
        wide = 6_378_137 / math.sqrt(1 - 0.00669438 * math.sin(math.radians(latitude)) ** 2) * math.cos(math.radians(latitude))
        assert dx.shape == dy.shape == (5, 1) and dx[0, 0] == pytest.approx(math.radians(0.005) * wide, rel=2e-3)
        assert dy[0, 0] == pytest.approx(555, rel=6e-3)


def test_baselines_stand_beside(made):
    found = assess_dem(made["dem"], made["truth"], AssessDemConfig(), baselines=[made["coarse"], made["dem"]])
    assert [s.title for s in found.baselines] == ["coarse.tif, nearest", "coarse.tif, bilinear", "coarse.tif, cubic", "dem.tif"]
    nearest, bilinear, cubic, same = (s.whole for s in found.baselines)
    with Raster(made["coarse"]) as raster:
        blown = raster.read(Window(0, 0, 55, 45))[0][0].repeat(4, 0).repeat(4, 1).astype(np.float64)
    e = (blown - TRUTH)[valid()]
    assert nearest["rmse"] == pytest.approx(np.sqrt((e**2).mean()), rel=1e-9) and nearest["pixels"] == valid().sum()
    assert cubic["rmse"] < bilinear["rmse"] < nearest["rmse"] and same == found.dem.whole
    gain = found.improvement(found.baselines[0])
    assert gain == pytest.approx(100 * (1 - found.dem.whole["rmse"] / nearest["rmse"])) and 0 < gain < 100
    assert found.best is min(found.baselines, key=lambda s: s.whole["rmse"]) and found.numbers()["IMPROVEMENT"] == found.improvement(
        found.best
    )


def test_windows_of_any_size_give_the_same(made, tmp_path, monkeypatch):
    """Void, coarse DEM on another CRS's grid, land classes and shift included."""
    other = gdal.Warp(str(tmp_path / "degrees.tif"), made["coarse"], dstSRS="EPSG:4326", resampleAlg="cubic", dstNodata=VOID)
    other = None
    results, rasters = [], []
    for block in (37, 1024):
        monkeypatch.setattr(road, "BLOCK", block)
        target = str(tmp_path / f"{block}.tif")
        config = AssessDemConfig(coregister="full")
        found = assess_dem(
            made["dem"], made["truth"], config, baselines=[str(tmp_path / "degrees.tif")], landcover=made["land"], error=target
        )
        results.append(found)
        rasters.append(helpers.read_raster(target)[0])
    few, whole = results
    assert np.allclose(rasters[0], rasters[1], atol=1e-4) and other is None
    for a, b in zip(few.rows(), whole.rows()):
        assert a.keys() == b.keys() and (a["raster"], a["class"], a["pixels"]) == (b["raster"], b["class"], b["pixels"])
        for name in a:
            if isinstance(a[name], float):
                assert a[name] == pytest.approx(b[name], rel=1e-5, abs=1e-6, nan_ok=True), (a["class"], name)
    assert np.allclose(few.overviews[0].mean(), whole.overviews[0].mean(), atol=1e-6, equal_nan=True)


def test_by_land_class_and_inside_an_area(made, tmp_path):
    area = helpers.write_layer(tmp_path / "area.gpkg", [(helpers.box(GRID, 0, 0, 220, 90), {"a": 1})], GRID.crs)
    found = assess_dem(made["dem"], made["truth"], AssessDemConfig(), landcover=made["land"], area=f"{area}|layername=labels")
    upper = valid()
    upper[90:] = False
    assert found.dem.whole["pixels"] == upper.sum()
    names = dict(found.by_land)
    assert list(names) == ["not known", "forest"] and names["forest"][0]["pixels"] == upper[:, 80:].sum()
    e = ((TRUTH + ERROR).astype(np.float64) - TRUTH)[:, 80:][upper[:, 80:]]
    assert names["forest"][0]["bias"] == pytest.approx(e.mean(), rel=1e-9)


def test_only_where_all_have_data(made, tmp_path):
    part = written(tmp_path / "part.tif", TRUTH[:, :88].reshape(45, 4, 22, 4).mean(axis=(1, 3)), helpers.utm(22, 45, 40.0))
    found = assess_dem(made["dem"], made["truth"], AssessDemConfig(), baselines=[part])
    assert found.dem.whole["pixels"] == found.best.whole["pixels"] == valid()[:, :88].sum()
    assert any("40% of its pixels are compared" in note for note in found.notes)
    small = written(tmp_path / "small.tif", TRUTH[30:90, 50:120], helpers.utm(70, 60, 10.0, x=400_500.0, y=4_499_700.0))
    found = assess_dem(small, made["truth"], AssessDemConfig())
    assert (
        found.dem.whole["rmse"] < 1e-4
        and found.dem.whole["pixels"] == 60 * 70
        and any("of the reference's pixels only" in n for n in found.notes)
    )


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """The truth as a DEM of another raster, half a pixel to the east and south and 7 m too high."""
    z = hills(np.arange(220) - 0.5, np.arange(180)[:, None] - 0.5) + 7
    return written(tmp_path_factory.mktemp("shift") / "shifted.tif", z.astype(np.float32))


def test_shift_and_offset_are_told_and_taken_away(made, shifted):
    found = {mode: assess_dem(shifted, made["truth"], AssessDemConfig(coregister=mode)) for mode in ("none", "vertical", "full")}
    for result in found.values():
        told = result.numbers()
        assert (told["SHIFT_EAST_M"], told["SHIFT_NORTH_M"]) == pytest.approx((5, -5), abs=0.1) and told["SHIFT_PX"] == pytest.approx(
            0.707, abs=0.01
        )
        assert told["OFFSET_M"] == pytest.approx(7, abs=0.01)
        assert any("0.50 and 0.50 of its pixels" in n and "half a pixel" in n for n in result.notes)
    none, vertical, full = (found[mode].dem.whole for mode in ("none", "vertical", "full"))
    assert (
        none["bias"] == pytest.approx(7, abs=0.05)
        and abs(vertical["bias"]) < 0.1
        and vertical["std"] == pytest.approx(none["std"], rel=1e-9)
    )
    assert none["rmse"] > 7 and vertical["rmse"] > 0.5 and full["rmse"] < 0.05
    assert any("'Coregister: vertical'" in n for n in found["none"].notes) and not any(
        "'Coregister: vertical'" in n for n in found["full"].notes
    )
    assert [found[m].shifts[0]["applied"] for m in found] == ["nothing", "offset", "shift and offset"]


DOUBTS = {
    "feet": (TRUTH / 0.3048, None, "feet"),
    "level DEM": (np.full_like(TRUTH, 850), None, "dem.tif has one height everywhere"),
    "whole metres": (np.rint(TRUTH).astype(np.int16), None, "whole metres"),
    "level reference": (TRUTH, np.full_like(TRUTH, 850), "R² is not defined"),
    "coarse reference": (TRUTH, helpers.utm(22, 18, 100.0), "10.0 times as wide as the DEM's"),
    "coarse DEM": (TRUTH.reshape(45, 4, 55, 4).mean(axis=(1, 3)), helpers.utm(55, 45, 40.0), "can't hold the finer terrain"),
}


@pytest.mark.parametrize("kind", DOUBTS)
def test_doubts_are_told(tmp_path, kind):
    pixels, more, words = DOUBTS[kind]
    fine, wide = GRID, TRUTH
    if kind == "coarse reference":
        wide, fine = TRUTH.reshape(18, 10, 22, 10).mean(axis=(1, 3)), more
    elif kind == "level reference":
        wide = more
    grid = more if kind == "coarse DEM" else GRID
    told = []
    found = assess_dem(
        written(tmp_path / "dem.tif", pixels, grid), written(tmp_path / "truth.tif", wide, fine), AssessDemConfig(),
        report=str(tmp_path / "r.html") if "level" in kind else "", json_path=str(tmp_path / "f.json"), progress=lambda _, message="": told.append(message),
    )  # fmt: skip
    assert any(words in note for note in found.notes), found.notes
    assert any(line.startswith("Warning: ") and words in line for line in told)
    if "level" in kind:  # what is not defined is a dash
        page = (tmp_path / "r.html").read_text(encoding="utf-8")
        assert "To be known" in page and not re.search(r"\bnan\b", re.sub(r"data:[^\"]*", "", page).lower())
    numbers = found.numbers()
    assert all(v is None or math.isfinite(v) for v in numbers.values()) and (numbers["R2"] is None) == (kind == "level reference")
    if kind == "coarse reference":
        assert found.dem.method == "average" and numbers["RMSE"] < 0.01
    if kind == "level DEM":
        assert numbers["SHIFT_EAST_M"] is None and found.dem.whole["r2"] < 0


def test_report_table_and_figures(made, tmp_path):
    out = {name: str(tmp_path / name) for name in ("r.html", "t.csv", "f.json", "e.tif")}
    found = assess_dem(
        made["dem"], made["truth"], AssessDemConfig(), baselines=[made["coarse"]], landcover=made["land"], report=out["r.html"], csv=out["t.csv"],
        json_path=out["f.json"], error=out["e.tif"], title="A <test>",
    )  # fmt: skip
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for words in ("A &lt;test&gt;", "Beside plain interpolation", "Where it is off", "By slope", "By land class", "A profile", "Hillshades side by side",
                  "Position", "forest", "coarse.tif, cubic", found.headline()[:40]):  # fmt: skip
        assert words in page, words
    assert "://" not in page and page.count("<svg") == 6 and page.count("<img") == 1
    with open(out["t.csv"], encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert (
        len(rows) == 4 * (1 + len(found.by_slope) + len(found.by_land))
        and rows[0]["raster"] == "dem.tif"
        and rows[0]["dem_is_better_percent"] == ""
    )
    assert float(rows[3]["dem_is_better_percent"]) == pytest.approx(found.improvement(found.baselines[2]))
    figures = helpers.load_json(out["f.json"])
    assert (
        figures["dem"]["rmse"] == found.dem.whole["rmse"] and len(figures["baselines"]) == 3 and figures["settings"]["coregister"] == "none"
    )
    assert [c["class"] for c in figures["land_classes"]] == ["not known", "forest", "3"] and figures["coregistration"][0][
        "name"
    ] == "dem.tif"
    style, limit = (tmp_path / "e.qml").read_text(encoding="utf-8"), float(f"{found.dem.whole['le90']:.2g}")
    assert f'value="{-limit:g}"' in style and f'value="{limit:g}"' in style and "@" not in style


def test_headline_says_whether_it_was_worth_it(made):
    better = assess_dem(made["truth"], made["truth"], AssessDemConfig(), baselines=[made["coarse"]])
    assert "100 % less than the best plain interpolation (coarse.tif, cubic)" in better.headline()
    worse = assess_dem(made["dem"], made["truth"], AssessDemConfig(), baselines=[made["truth"]])
    assert "no error at all" in worse.headline() and "too high" in worse.headline()
    worse = assess_dem(made["coarse"], made["truth"], AssessDemConfig(), baselines=[made["dem"]])
    more = worse.dem.whole["rmse"] / worse.best.whole["rmse"]
    assert (f"{100 * (more - 1):.0f} % more than dem.tif as it is" in worse.headline()) == (more > 1)


def refuse(made, tmp_path, kind):
    """What is wrong with (dem, reference, more)."""
    dem, truth, more, config = made["dem"], made["truth"], {}, {}
    if kind == "elsewhere":
        dem = written(tmp_path / "far.tif", TRUTH, helpers.utm(220, 180, 10.0, x=700_000.0))
    elif kind == "no CRS":
        dem = written(tmp_path / "bare.tif", TRUTH, helpers.Grid(220, 180, GRID.transform))
    elif kind == "another size, no georeference":
        dem, truth = (written(tmp_path / f"{n}.tif", TRUTH[:, :n], helpers.Grid(n, 180)) for n in (200, 220))
    elif kind in ("two bands", "no such band"):
        dem, config = written(tmp_path / "two.tif", np.stack([TRUTH, TRUTH])), {"band": 3} if kind == "no such band" else {}
    elif kind == "reference of two bands":
        truth = written(tmp_path / "two.tif", np.stack([TRUTH, TRUTH]))
    elif kind == "all void":
        dem = written(tmp_path / "void.tif", np.full_like(TRUTH, VOID), nodata=VOID)
    elif kind == "baseline elsewhere":
        more["baselines"] = [written(tmp_path / "far.tif", TRUTH, helpers.utm(220, 180, 10.0, x=700_000.0))]
    elif kind == "land cover of heights":
        more["landcover"] = made["coarse"]
    elif kind == "land cover of whole metres":
        more["landcover"] = written(tmp_path / "metres.tif", np.rint(TRUTH).astype(np.int16))
    elif kind == "output is the input":
        more["error"] = dem
    elif kind in ("5, 3", "a", "95"):
        config = {"slope_limits": kind}
    elif kind == "area elsewhere":
        more["area"] = (
            helpers.write_layer(tmp_path / "a.gpkg", [(helpers.box(GRID, 900, 900, 5, 5), {"a": 1})], GRID.crs) + "|layername=labels"
        )
    return dem, truth, AssessDemConfig(**config), more


@pytest.mark.parametrize(
    "kind, error, words",
    [
        ("elsewhere", GridMismatchError, "does not lie over"), ("no CRS", GridMismatchError, "CRS"), ("baseline elsewhere", GridMismatchError, "far.tif"),
        ("another size, no georeference", GridMismatchError, "not georeferenced"), ("two bands", BandError, "Say which one under Band"),
        ("no such band", BandError, "Band 3"), ("reference of two bands", BandError, "Translate"), ("all void", GridMismatchError, "no pixel in which"),
        ("land cover of whole metres", ConfigError, "class raster"), ("land cover of heights", ConfigError, "class raster"), ("output is the input", ConfigError, "another name"), ("5, 3", ConfigError, "5, 15, 30"),
        ("a", ConfigError, "5, 15, 30"), ("95", ConfigError, "between 0 and 90"), ("area elsewhere", LabelError, "outside the raster"),
    ],
)  # fmt: skip
def test_bad_input(made, tmp_path, kind, error, words):
    dem, truth, config, more = refuse(made, tmp_path, kind)
    given = sorted(p.name for p in tmp_path.iterdir())
    outputs = {"report": str(tmp_path / "r.html"), "csv": str(tmp_path / "t.csv"), "error": str(tmp_path / "e.tif"), **more}
    with pytest.raises(error) as caught:
        assess_dem(dem, truth, config, **outputs)
    assert words in str(caught.value) and caught.value.remedy
    assert sorted(p.name for p in tmp_path.iterdir()) == given


def test_a_band_can_be_chosen(made, tmp_path):
    two = written(tmp_path / "two.tif", np.stack([TRUTH * 0, TRUTH + 1]))
    assert assess_dem(two, made["truth"], AssessDemConfig(band=2)).dem.whole["bias"] == pytest.approx(1, abs=1e-4)


def test_rasters_without_georeference_of_one_size(tmp_path):
    a, b = (written(tmp_path / f"{k}.tif", TRUTH + k, helpers.Grid(220, 180)) for k in (0, 2))
    found = assess_dem(b, a, AssessDemConfig())
    assert found.dem.whole["bias"] == pytest.approx(2, abs=1e-4) and found.dem.whole["pixels"] == TRUTH.size


def test_cancel_leaves_nothing(made, tmp_path):
    for stop in (0.1, 0.4, 0.6):

        def progress(fraction, message="", stop=stop):
            if fraction >= stop:
                raise Cancelled()

        with pytest.raises(Cancelled):
            assess_dem(
                made["dem"], made["truth"], AssessDemConfig(), baselines=[made["coarse"]], error=str(tmp_path / "e.tif"), progress=progress
            )
    assert not list(tmp_path.iterdir())


def test_only_what_may_overlap_is_read():
    grid = helpers.utm(20_000, 20_000, 1.0)
    window = inside(grid, helpers.utm(300, 200, 10.0, x=405_000.0, y=4_490_000.0))
    assert window.col % 256 == window.row % 256 == 0 and window.col <= 5000 and window.row <= 10_000
    assert 8000 <= window.col + window.width < 8100 and 12_000 <= window.row + window.height < 12_100
    assert inside(grid, grid) == Window(0, 0, 20_000, 20_000)
