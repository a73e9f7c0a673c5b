"""Finer elevation models: planes stay planes, no seams, voids, grids, units and vertical reference, levels, and all that can be wrong."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
from osgeo import gdal, osr

from tests import helpers, terrain
from water_dl_plugin.engine import bundle
from water_dl_plugin.engine.dem import downscale as job
from water_dl_plugin.engine.dem.consistency import axis, block_means
from water_dl_plugin.engine.dem.downscale import downscale
from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.raster import Grid
from water_dl_plugin.engine.settings import DownscaleConfig

HEIGHT = terrain.rough(50, 64, seed=3)
BASE = helpers.utm(64, 50, 30.0)


def config(**more):
    return DownscaleConfig(**{"device": "cpu", "threads": 1, "window": 128, **more})


def dem(path, heights=HEIGHT, grid=BASE, nodata=-32768, unit="", dtype=np.float32) -> str:
    helpers.write_raster(path, np.where(np.isfinite(heights), heights, nodata).astype(dtype), grid, nodata=nodata)
    if unit:
        data = gdal.Open(str(path), gdal.GA_Update)
        data.GetRasterBand(1).SetUnitType(unit)
        data = None
    return str(path)


def opened(path):
    """Heights float64 with NaN for nodata, and the dataset."""
    data = gdal.Open(str(path))
    pixels = data.ReadAsArray().astype(np.float64)
    return np.where(pixels == data.GetRasterBand(1).GetNoDataValue(), np.nan, pixels), data


def run(tmp_path, dems, model, *, name="fine.tif", settings=None, **more):
    lines = []
    done = downscale(dems, model, str(tmp_path / name), settings or config(), progress=lambda f, m="": m and lines.append(m), **more)
    return opened(tmp_path / name)[0], done, lines


@pytest.fixture
def model(tmp_path):
    return terrain.model(tmp_path / "m.onnx")


class TestPlanes:
    """Constants and planes come back exactly: 1 mm at 3000 m, up to the borders."""

    @pytest.mark.parametrize(("down", "across"), [(0, 0), (2.5, -4), (-0.37, 11.3)])
    @pytest.mark.parametrize("factor", [2.0, 3.0, 4.7])
    def test_in_metres(self, tmp_path, down, across, factor):
        rows, cols = np.mgrid[:40, :37]
        base = dem(tmp_path / "b.tif", 3000 + down * rows + across * cols, helpers.utm(37, 40, 30.0), dtype=np.float64)
        fine, done, _ = run(tmp_path, [base], terrain.model(tmp_path / "m.onnx", factor=factor))
        assert fine.shape == (round(40 * factor), round(37 * factor)) == (done.grid.height, done.grid.width)
        y, x = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(fine.shape, (40, 37)))
        assert np.abs(fine - (3000 + down * y[:, None] + across * x)).max() < 1e-3

    def test_in_degrees_far_from_the_equator_and_with_a_second_model_and_an_image(self, tmp_path):
        rows, cols = np.mgrid[:60, :80]
        grid = Grid(80, 60, (8.0, 1 / 3600, 0, 47.0, 0, -1 / 3600), helpers.crs(4326))
        plane = 2900 + 1.5 * rows - 3.25 * cols
        other = dem(
            tmp_path / "o.tif",
            plane[::2, ::2] + 0.75 - 1.625,
            Grid(40, 30, (8.0, 1 / 1800, 0, 47.0, 0, -1 / 1800), grid.crs),
            dtype=np.float64,
        )
        flat = helpers.write_raster(tmp_path / "i.tif", np.zeros((60, 80), np.float32), grid)
        kinds = ("elevation", "elevation", "image")
        fine, done, _ = run(
            tmp_path,
            [dem(tmp_path / "b.tif", plane, grid, dtype=np.float64), other],
            terrain.model(tmp_path / "m.onnx", kinds),
            others=[flat],
        )
        y, x = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(fine.shape, (60, 80)))
        assert np.abs(fine - (2900 + 1.5 * y[:, None] - 3.25 * x)).max() < 1e-3
        across, down = done.grid.pixel_size[0] * np.cos(np.radians(47)), done.grid.pixel_size[1]
        assert 0.95 < across / down < 1.05  # square on the ground, though the base's pixels are not

    def test_a_network_that_bends_planes_is_seen(self, tmp_path, monkeypatch):
        """The tests above can fail: mirrored as other bands are, a slope becomes a ridge at the border."""
        from water_dl_plugin.engine import infer

        reflect = infer.reflect
        monkeypatch.setattr(infer, "reflect", lambda numbers, pad, odd=(): reflect(numbers, pad))
        rows = np.mgrid[:40, :37][0]
        fine, *_ = run(
            tmp_path, [dem(tmp_path / "b.tif", 3000 + 9.0 * rows, helpers.utm(37, 40, 30.0))], terrain.model(tmp_path / "m.onnx")
        )
        assert np.abs(fine - 3000 - 9 * (((np.arange(120) + 0.5) / 3 - 0.5)[:, None])).max() > 0.1


def test_it_is_the_interpolated_base_and_what_the_network_says(tmp_path, model):
    """gdalwarp and ONNX Runtime themselves, on the whole at once; away from the border, which both end differently."""
    base = dem(tmp_path / "b.tif", dtype=np.float64)
    fine, done, lines = run(tmp_path, [base], model, error=str(tmp_path / "e.tif"))
    left, top = BASE.transform[0], BASE.transform[3]
    options = {"outputBounds": (left, top - 1500, left + 1920, top), "width": 192, "height": 150, "resampleAlg": "cubic", "format": "MEM"}
    cubic = gdal.Warp("", base, errorThreshold=0, **options).ReadAsArray()
    residual, spread = onnxruntime.InferenceSession(model).run(None, {"image": (cubic - 1800).astype(np.float32)[None, None]})[0][0]
    inside = (slice(12, -12), slice(12, -12))
    assert np.abs(residual[inside]).max() > 1
    assert np.abs(fine - cubic - residual)[inside].max() < 1e-3
    error, data = opened(tmp_path / "e.tif")
    assert np.abs(error - spread)[inside].max() < 1e-3
    assert (
        -1e-3 < done.largest_change - np.abs(residual[inside]).max() < 5 and abs(done.mean_change - np.abs(residual[inside]).mean()) < 0.05
    )
    assert abs(done.high_error - np.quantile(error, 0.98)) < 0.1 and abs(done.mean_error - error.mean()) < 1e-3
    band = data.GetRasterBand(1)
    assert (band.DataType, band.GetNoDataValue(), band.GetDescription()) == (gdal.GDT_Float32, -9999, "expected error (standard deviation)")
    text = "\n".join(lines)
    for words in (
        "pixels of 30 m",
        "result: 10 m",
        "3 times finer",
        "CPU",
        "windows of 128 px",
        "0.00 % of the pixels are void",
        f"{done.largest_change:.3g} m at most",
        "Warning",
    ):
        assert (words in text) == (words != "Warning"), words
    tags = data.GetMetadata()
    assert tags["WATERDL_MODEL"] == f"m.onnx {bundle.file_hash(model)}" and json.loads(tags["WATERDL_SETTINGS"])["window"] == 128


class TestSeams:
    @pytest.mark.parametrize("more", [{"window": 64}, {"window": 90, "batch_size": 3}, {"window": 64, "flips": True}])
    def test_small_windows_give_what_one_window_gives(self, tmp_path, more):
        """Rough terrain, 600 m of relief; also with another elevation model, an image and classes."""
        model = terrain.model(tmp_path / "m.onnx", ("elevation", "elevation", "image", "class"))
        base, other = dem(tmp_path / "b.tif"), dem(tmp_path / "o.tif", HEIGHT[::2, ::2], helpers.utm(32, 25, 60.0))
        grid = helpers.utm(70, 60, 25.0, x=BASE.transform[0] + 40)
        others = [
            helpers.write_raster(tmp_path / f"{k}.tif", np.random.default_rng(k).integers(0, 200, (60, 70)).astype(np.uint8), grid)
            for k in (1, 2)
        ]
        whole, *_ = run(tmp_path, [base, other], model, others=others, settings=config(window=512, flips=more.get("flips", False)))
        parts, *_ = run(tmp_path, [base, other], model, others=others, settings=config(**more))
        assert np.isfinite(whole).all() and np.abs(whole - parts).max() < 1e-3

    def test_nor_does_the_network_that_trainmodel_makes(self, tmp_path):
        """demunet with weights drawn by chance, through its own model file; and planes."""
        from water_dl_plugin.engine import nets, onnx_export
        from water_dl_plugin.engine.normalise import Normalisation

        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        net = nets.build("demunet", 1, 2, elevations=(0,), depth=2, width=4).eval()
        torch.nn.init.normal_(net.head.weight, 0, 2)
        info = bundle.ModelInfo(
            "regression", (("dem", "m"),), Normalisation("zscore", ({"elevation": True, "fill": 0.0},)), margin=net.margin, multiple=net.stride, nodata="base",
            details={"target": {"factor": 3.0}, "bands": [{"kind": "elevation"}]},
        )  # fmt: skip
        model = str(tmp_path / "m.onnx")
        onnx_export.write(model, net, torch.nn.Identity(), info, example=torch.rand(1, 1, 64, 64).numpy())
        base, plane = dem(tmp_path / "b.tif"), dem(tmp_path / "p.tif", 3000 + 9.0 * np.mgrid[:50, :64][0], dtype=np.float64)
        whole, done, _ = run(tmp_path, [base], model, settings=config(window=512))
        parts, *_ = run(tmp_path, [base], model, settings=config(window=160))
        assert done.largest_change > 1 and np.abs(whole - parts).max() < 1e-3
        fine, *_ = run(tmp_path, [plane], model)
        assert np.abs(fine - 3000 - 9 * (((np.arange(150) + 0.5) / 3 - 0.5)[:, None])).max() < 1e-3

    def test_it_would_not_be_so_without_the_margin(self, tmp_path, monkeypatch):
        monkeypatch.setattr(job, "RAMP", 0)
        base, blind = dem(tmp_path / "b.tif"), terrain.model(tmp_path / "m.onnx", margin=0)
        whole, parts = (run(tmp_path, [base], blind, settings=config(window=window))[0] for window in (512, 64))
        assert np.abs(whole - parts).max() > 0.05


def far_from(wanted):
    """Pixels more than 16 px away from these, along both axes."""
    wanted = np.pad(wanted, 16)
    for axis_ in (0, 1):
        wanted = np.logical_or.reduce([np.roll(wanted, k, axis_) for k in range(-16, 17)])
    return ~wanted[16:-16, 16:-16]


class TestVoids:
    heights = HEIGHT.copy()
    heights[:, :3] = heights[45:] = heights[20:23, 30:37] = heights[7, 7] = np.nan

    def test_those_of_the_base_are_kept_exactly_and_the_rest_is_filled(self, tmp_path, model):
        fine, done, lines = run(tmp_path, [dem(tmp_path / "b.tif", self.heights)], model, error=str(tmp_path / "e.tif"))
        wanted = np.isnan(self.heights).repeat(3, 0).repeat(3, 1)
        assert np.array_equal(np.isnan(fine), wanted) and np.array_equal(np.isnan(opened(tmp_path / "e.tif")[0]), wanted)
        assert (done.voids, done.pixels) == (wanted.sum(), (~wanted).sum())
        assert any(f"{100 * wanted.mean():.2f} % of the pixels are void" in line for line in lines)
        whole, *_ = run(tmp_path, [dem(tmp_path / "c.tif")], model)
        off, far = np.abs(fine - whole), far_from(wanted)
        assert far.sum() > 10_000 and off[far].max() < 0.01 and off[~wanted].max() < 6

    def test_a_void_leaves_no_step_at_the_borders_of_windows(self, tmp_path, model):
        """A tilted plane with voids: what they are filled with may depend on the window, the result hardly does."""
        rows, cols = np.mgrid[:50, :64]
        plane = np.where(np.isnan(self.heights), np.nan, 1000 + 2.0 * rows + 3 * cols)
        one, other = (run(tmp_path, [dem(tmp_path / "b.tif", plane)], model, settings=config(window=window))[0] for window in (64, 512))
        far = far_from(np.isnan(one))
        assert np.abs(one - other)[far].max() < 0.01
        assert np.nanmax(np.abs(np.diff(one - other))) < 0.4 and np.nanmean(np.abs(one - other)) < 0.01

    def test_those_of_other_rasters_make_no_holes(self, tmp_path):
        model = terrain.model(tmp_path / "m.onnx", ("elevation", "elevation", "image"))
        other = dem(tmp_path / "o.tif", np.where(np.arange(64) < 30, HEIGHT, np.nan))
        image = helpers.write_raster(tmp_path / "i.tif", np.full((20, 20), 50, np.float32), helpers.utm(20, 20, 30.0))
        fine, *_ = run(tmp_path, [dem(tmp_path / "b.tif"), other], model, others=[image])
        assert np.isfinite(fine).all()

    def test_nothing_but_voids(self, tmp_path, model):
        fine, done, _ = run(tmp_path, [dem(tmp_path / "b.tif", np.full((50, 64), np.nan))], model, error=str(tmp_path / "e.tif"))
        assert np.isnan(fine).all() and done.pixels == 0 and done.mean_change == done.high_error == 0

    def test_what_the_network_can_not_say_is_nodata_and_told(self, tmp_path, model, monkeypatch):
        predict = job.predict

        def failing(*args):
            for window, given, holds in predict(*args):
                given[:, 3, 5:9] = np.nan, np.inf, -np.inf, np.nan
                yield window, given, holds

        monkeypatch.setattr(job, "predict", failing)
        fine, done, lines = run(tmp_path, [dem(tmp_path / "b.tif")], model, error=str(tmp_path / "e.tif"))
        assert (
            np.array_equal(np.argwhere(np.isnan(fine)), [[3, k] for k in range(5, 9)]) and done.voids == 4 and np.isfinite(done.mean_error)
        )
        assert any("gave no number for 4 pixels" in line for line in lines)


class TestWhereItLies:
    def test_crs_unit_and_vertical_reference_are_the_base_s(self, tmp_path):
        reference = osr.SpatialReference()
        reference.SetFromUserInput("EPSG:32612+6360")  # NAVD88 height (ftUS)
        base = dem(tmp_path / "b.tif", grid=Grid(64, 50, BASE.transform, reference.ExportToWkt()), unit="ft")
        _, done, lines = run(tmp_path, [base], terrain.model(tmp_path / "m.onnx", unit="ft"), error=str(tmp_path / "e.tif"))
        for name in ("fine.tif", "e.tif"):
            data = gdal.Open(str(tmp_path / name))
            found = osr.SpatialReference(data.GetProjection())
            assert found.IsCompound() and "NAVD88" in data.GetProjection() and found.GetAttrValue("PROJCS").endswith("zone 12N")
            assert data.GetRasterBand(1).GetUnitType() == "ft" and data.GetRasterBand(1).DataType == gdal.GDT_Float32
        assert done.unit == "ft" and abs(done.zfactor - 0.3048) < 1e-3 and any("ft at most" in line for line in lines)

    def test_on_a_grid_in_another_crs_the_vertical_part_stays(self, tmp_path, model):
        reference = osr.SpatialReference()
        reference.SetFromUserInput("EPSG:32612+5773")
        base = dem(tmp_path / "b.tif", grid=Grid(64, 50, BASE.transform, reference.ExportToWkt()))
        grid = helpers.utm(120, 80, 12.0, x=-90_000.0 + 410_000 - 230_000, epsg=32613)
        corner = osr.CoordinateTransformation(*map(osr.SpatialReference, (BASE.crs, grid.crs))).TransformPoint(*BASE.to_map(10, 10))
        grid = Grid(120, 80, (corner[0], 12.0, 0, corner[1], 0, -12.0), grid.crs)
        like = helpers.write_raster(tmp_path / "like.tif", np.zeros((80, 120), np.uint8), grid)
        fine, *_ = run(tmp_path, [base], model, grid_path=like)
        data = opened(tmp_path / "fine.tif")[1]
        assert data.GetGeoTransform() == pytest.approx(grid.transform) and fine.shape == (80, 120) and np.isfinite(fine).mean() > 0.9
        assert "EGM96" in data.GetProjection() and "zone 13N" in data.GetProjection()
        options = {
            "outputBounds": (grid.bounds[0], grid.bounds[1], grid.bounds[2], grid.bounds[3]),
            "width": 120,
            "height": 80,
            "dstSRS": grid.crs,
            "resampleAlg": "cubic",
            "format": "MEM",
        }
        cubic = gdal.Warp("", dem(tmp_path / "plain.tif"), errorThreshold=0, **options).ReadAsArray()
        assert np.nanmedian(np.abs(fine - cubic)[20:60, 20:100]) < 1.5  # as large as what the network adds

    @pytest.mark.parametrize(("resolution", "shape"), [(10.0, (150, 192)), (7.5, (200, 256)), (8.0, (188, 240))])
    def test_a_pixel_size(self, tmp_path, model, resolution, shape):
        fine, done, _ = run(tmp_path, [dem(tmp_path / "b.tif")], model, settings=config(resolution=resolution))
        assert fine.shape == shape and done.grid.pixel_size == (resolution, resolution) and done.grid.transform[::3] == BASE.transform[::3]

    @pytest.mark.parametrize("factor", [2.93, 3.0, 3.1])
    def test_factors_near_a_whole_number_become_one(self, tmp_path, factor):
        fine, *_ = run(tmp_path, [dem(tmp_path / "b.tif")], terrain.model(tmp_path / "m.onnx", factor=factor))
        assert fine.shape == (150, 192)

    def test_a_base_without_crs(self, tmp_path, model):
        base = dem(tmp_path / "b.tif", grid=Grid(64, 50, (0.0, 30.0, 0.0, 0.0, 0.0, -30.0)))
        assert run(tmp_path, [base], model)[0].shape == (150, 192)


class TestLevels:
    """Further elevation models are put onto the base's level, as in training."""

    tilt = 6 + 0.1 * np.arange(64)

    @pytest.mark.parametrize("kind", ["constant", "plane", "none"])
    def test_offsets_are_taken_away(self, tmp_path, kind):
        model = terrain.model(tmp_path / "m.onnx", ("elevation", "elevation"), vertical=kind)
        other = terrain.rough(50, 64, seed=3) + np.random.default_rng(0).normal(0, 0.2, HEIGHT.shape)
        shift = self.tilt if kind == "plane" else 7.0
        base, even = dem(tmp_path / "b.tif"), dem(tmp_path / "even.tif", other)
        wanted, *_ = run(tmp_path, [base, even], model)
        fine, _, lines = run(tmp_path, [base, dem(tmp_path / "odd.tif", other + shift)], model)
        assert any("odd.tif is lowered by " in line for line in lines) == (kind != "none")
        off = np.abs(fine - wanted).max()
        assert off > 0.1 if kind == "none" else off < 0.02
        if kind != "none":  # the setting goes before the model
            fine, *_ = run(tmp_path, [base, str(tmp_path / "odd.tif")], model, settings=config(vertical="none"))
            assert np.abs(fine - wanted).max() > 0.1

    def test_cancel_is_heard_while_they_are_compared(self, tmp_path):
        model = terrain.model(tmp_path / "m.onnx", ("elevation", "elevation"))
        heard, base = [], dem(tmp_path / "b.tif")
        downscale([base, base], model, str(tmp_path / "fine.tif"), config(), progress=lambda *a: heard.append(a))
        raised = next(k for k, a in enumerate(heard) if "is raised by" in a[1])
        assert heard[raised - 9 : raised] == [(0, "")] * 9  # of 150 x 192 px in squares of 64

    def test_feet_against_metres_are_suspected(self, tmp_path):
        model = terrain.model(tmp_path / "m.onnx", ("elevation", "elevation"))
        other = dem(tmp_path / "o.tif", HEIGHT / 0.3048)
        lines = run(tmp_path, [dem(tmp_path / "b.tif"), other], model)[2]
        assert any("Warning" in line and "feet" in line and "o.tif" in line for line in lines)


class TestCoarseHeights:
    def means(self, fine):
        rows, cols = axis(fine.shape[0], 50, 0.0, 50 / fine.shape[0]), axis(fine.shape[1], 64, 0.0, 64 / fine.shape[1])
        return block_means(fine, np.isfinite(fine), rows, cols)

    @pytest.mark.parametrize("factor", [3.0, 2.5])
    def test_the_means_over_the_base_s_pixels_are_its_heights(self, tmp_path, monkeypatch, factor):
        monkeypatch.setattr(job, "BLOCK", 64)
        base, model = dem(tmp_path / "b.tif", TestVoids.heights), terrain.model(tmp_path / "m.onnx", factor=factor)
        plain, *_ = run(tmp_path, [base], model)
        fine, _, lines = run(tmp_path, [base], model, settings=config(consistent=True), error=str(tmp_path / "e.tif"))
        (before, whole), (after, _) = self.means(plain), self.means(fine)
        assert whole.sum() > 2000 and np.array_equal(np.isnan(plain), np.isnan(fine))
        assert np.abs(before - TestVoids.heights)[whole].max() > 0.5
        assert np.abs(after - TestVoids.heights)[whole].max() < 1e-3
        assert any("were off by" in line for line in lines) and not (tmp_path / "fine.tif.step.tif").exists()

    def test_blocks_leave_no_seam(self, tmp_path, monkeypatch, model):
        base = dem(tmp_path / "b.tif", TestVoids.heights)
        whole, *_ = run(tmp_path, [base], model, settings=config(consistent=True))
        monkeypatch.setattr(job, "BLOCK", 64)
        parts, *_ = run(tmp_path, [base], model, settings=config(consistent=True))
        assert np.nanmax(np.abs(whole - parts)) < 1e-3

    def test_on_a_grid_that_reaches_beyond_the_base(self, tmp_path, monkeypatch, model):
        monkeypatch.setattr(job, "BLOCK", 64)
        grid = helpers.utm(400, 340, 10.0, x=BASE.transform[0] - 1500, y=BASE.transform[3] + 900)
        like = helpers.write_raster(tmp_path / "like.tif", np.zeros((340, 400), np.uint8), grid)
        fine, *_ = run(tmp_path, [dem(tmp_path / "b.tif")], model, grid_path=like, settings=config(consistent=True))
        part = fine[90:240, 150:342]
        assert np.isfinite(part).all() and np.isfinite(fine).sum() == part.size
        assert np.abs(self.means(part)[0] - HEIGHT.astype(np.float32)).max() < 1e-3

    def test_they_can_not_be_kept_in_another_crs(self, tmp_path, model):
        like = helpers.write_raster(
            tmp_path / "like.tif", np.zeros((9, 9), np.uint8), Grid(9, 9, (-112.2, 1e-4, 0, 40.645, 0, -1e-4), helpers.crs(4326))
        )
        with pytest.raises(ConfigError, match="another CRS"):
            run(tmp_path, [dem(tmp_path / "b.tif")], model, grid_path=like, settings=config(consistent=True))
