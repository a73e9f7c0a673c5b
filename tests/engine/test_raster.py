"""The door to rasters, against GDAL's own reading, closed formulas, and files that are damaged, strange or in the way."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from tests.road import UTM, tif, wkt
from water_dl_plugin.engine import raster as door
from water_dl_plugin.engine import writer as writers
from water_dl_plugin.engine.errors import BandError, Cancelled, GridMismatchError, OutputError, RasterError
from water_dl_plugin.engine.raster import Grid, Raster, Stack, Writer, parse_bands, write_small
from water_dl_plugin.engine.windows import Window, blocks

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)


@pytest.fixture(params=[False, True], ids=["return codes", "exceptions"])
def gdal_mode(request):
    """QGIS may or may not have switched GDAL's exceptions on."""
    gdal.UseExceptions() if request.param else gdal.DontUseExceptions()
    yield
    gdal.DontUseExceptions()


def whole(source):
    return source.read(Window(0, 0, source.grid.width, source.grid.height))


class TestReading:
    @pytest.mark.parametrize("driver", ["GTiff", "HFA", "ENVI", "PNG", "VRT", "netCDF"])
    def test_windows_are_what_gdal_reads(self, tmp_path, driver):
        pixels = RNG.integers(0, 255, (3, 57, 83), np.uint8)
        path = tif(tmp_path / "a.tif", pixels, options=["TILED=YES", "BLOCKXSIZE=16", "BLOCKYSIZE=32"])
        if driver != "GTiff":
            if not gdal.GetDriverByName(driver):
                pytest.skip(f"this GDAL has no {driver}")
            other = str(tmp_path / ("a." + {"HFA": "img", "PNG": "png", "VRT": "vrt", "netCDF": "nc", "ENVI": "dat"}[driver]))
            assert gdal.Translate(other, path, format=driver) is not None
            path = other if driver != "netCDF" else f'NETCDF:"{other}":Band1'
        reference = gdal.Open(path)
        with Raster(path) as raster:
            count = 1 if driver == "netCDF" else 3
            assert (raster.grid.width, raster.grid.height, len(raster.bands), raster.dtype) == (83, 57, count, np.uint8)
            for window in [Window(0, 0, 83, 57), Window(80, 50, 3, 7), Window(13, 20, 1, 1), *blocks(83, 57, 40)]:
                got, valid = raster.read(window)
                expected = reference.ReadAsArray(window.col, window.row, window.width, window.height).reshape(got.shape)
                assert valid.all() and got.dtype == np.uint8 and np.array_equal(got, expected)
            assert np.allclose(raster.grid.transform, UTM)
            assert driver in ("PNG", "netCDF") or raster.grid.crs

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
    def test_every_dtype_keeps_its_extremes(self, tmp_path, dtype):
        limits = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
        pixels = np.array([[[limits.min, limits.max, 0, 1]]], dtype)
        with Raster(tif(tmp_path / "a.tif", pixels)) as raster:
            got, valid = whole(raster)
            assert raster.dtype == got.dtype == dtype and valid.all() and got.tobytes() == pixels.tobytes()
            assert raster.bands[0].dtype == dtype

    @pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
    def test_negative_nodata(self, tmp_path, dtype):
        pixels = np.array([[[-1, 1, 0, -128]]], dtype)
        with Raster(tif(tmp_path / "a.tif", pixels, -1)) as raster:
            got, valid = whole(raster)
        assert np.array_equal(valid, pixels != -1) and np.array_equal(got[valid], pixels[valid])

    def test_nodata_of_each_band_is_its_own(self, tmp_path):
        pixels = RNG.integers(0, 4, (3, 20, 20), np.uint8)
        tif(tmp_path / "a.tif", pixels)
        parts = [
            gdal.Translate(str(tmp_path / f"{i}.tif"), str(tmp_path / "a.tif"), bandList=[i + 1], noData=n) for i, n in ((0, 0), (1, 3))
        ]
        third = gdal.Translate(str(tmp_path / "2.tif"), str(tmp_path / "a.tif"), bandList=[3])
        gdal.BuildVRT(str(tmp_path / "a.vrt"), [*parts, third], separate=True).FlushCache()
        with Raster(str(tmp_path / "a.vrt")) as raster:
            got, valid = whole(raster)
            assert [b.nodata for b in raster.bands] == [0, 3, None]
        assert np.array_equal(valid, np.stack([pixels[0] != 0, pixels[1] != 3, np.ones((20, 20), bool)])) and np.array_equal(got, pixels)

    def test_not_a_number_and_infinity_are_not_valid(self, tmp_path):
        pixels = np.array([[[np.nan, np.inf, -np.inf, 1.0, -9999.0]]], np.float32)
        with Raster(tif(tmp_path / "a.tif", pixels)) as raster:
            assert whole(raster)[1].tolist() == [[[False, False, False, True, True]]]
        with Raster(tif(tmp_path / "b.tif", pixels, -9999)) as raster:
            assert whole(raster)[1].tolist() == [[[False, False, False, True, False]]]
        with Raster(tif(tmp_path / "c.tif", pixels, math.nan)) as raster:
            assert whole(raster)[1].tolist() == [[[False, False, False, True, True]]]

    @pytest.mark.parametrize("nodata", [None, 7])
    @pytest.mark.parametrize("kind", ["alpha", "mask"])
    def test_alpha_and_masks_hide_pixels_also_beside_a_nodata_value(self, tmp_path, kind, nodata):
        pixels, seen = RNG.integers(0, 9, (3, 30, 40), np.uint8), RNG.random((30, 40)) > 0.3
        if kind == "alpha":
            path = tif(tmp_path / "a.tif", np.concatenate([pixels, np.where(seen, 255, 0)[None].astype(np.uint8)]), nodata, alpha=True)
        else:
            path = tif(tmp_path / "a.tif", pixels, nodata, mask=seen)
        with Raster(path) as raster:
            assert len(raster.bands) == 3
            got, valid = whole(raster)
        assert np.array_equal(got, pixels)
        assert np.array_equal(valid, np.broadcast_to(seen, pixels.shape) & (pixels != nodata if nodata else True))

    def test_bands_of_other_dtypes_come_in_the_common_one(self, tmp_path):
        tif(tmp_path / "a.tif", np.full((1, 4, 4), 200, np.uint8)), tif(tmp_path / "b.tif", np.full((1, 4, 4), -300.5, np.float32))
        gdal.BuildVRT(str(tmp_path / "a.vrt"), [str(tmp_path / "a.tif"), str(tmp_path / "b.tif")], separate=True).FlushCache()
        with Raster(str(tmp_path / "a.vrt")) as raster:
            assert raster.dtype == np.float32 and [b.dtype for b in raster.bands] == ["uint8", "float32"]
            assert whole(raster)[0][:, 0, 0].tolist() == [200, -300.5]

    def test_names_units_tags_and_categories(self, tmp_path):
        path = tif(tmp_path / "a.tif", np.zeros((2, 3, 3), np.uint8), names=["B3"])
        dataset = gdal.Open(path, gdal.GA_Update)
        dataset.GetRasterBand(2).SetUnitType("m")
        dataset.GetRasterBand(1).SetCategoryNames(["a", "b"])
        dataset.SetMetadataItem("KEY", "value")
        del dataset
        with Raster(path) as raster:
            assert [(b.name, b.unit) for b in raster.bands] == [("B3", ""), ("Band 2", "m")]
            assert raster.tags()["KEY"] == "value" and raster.categories() == ["a", "b"]


class TestChoosingBands:
    def test_numbers_ranges_and_names(self, tmp_path):
        names = ["B2", "B3", "B8", "slope"]
        for text, expected in {
            "": [1, 2, 3, 4],
            "2": [2],
            "1-3": [1, 2, 3],
            "4,1": [4, 1],
            " 3 ; B2, slope ": [3, 1, 4],
            "2,2": [2, 2],
            "1 - 2,": [1, 2],
        }.items():
            assert parse_bands(text, names) == expected
        pixels = RNG.integers(0, 255, (4, 5, 5), np.uint8)
        with Raster(tif(tmp_path / "a.tif", pixels, names=names), "slope,1-2") as raster:
            assert np.array_equal(whole(raster)[0], pixels[[3, 0, 1]]) and [b.name for b in raster.bands] == ["slope", "B2", "B3"]

    @pytest.mark.parametrize("text", ["0", "5", "1-9", "0-2", "B4", "x", "-1", "1.5", "3-1", ",", "1e9", "99999999", "1 2", "2-999999"])
    def test_what_is_not_there_is_told_with_what_is(self, tmp_path, text):
        path = tif(tmp_path / "a.tif", np.zeros((4, 5, 5), np.uint8))
        with pytest.raises(BandError) as error:
            Raster(path, text)
        assert error.value.remedy

    def test_a_chosen_alpha_band_is_a_band(self, tmp_path):
        """GDAL itself calls the fourth of four bytes alpha; that may well be near infrared."""
        pixels = RNG.integers(0, 255, (4, 5, 5), np.uint8)
        path = tif(tmp_path / "a.tif", pixels, alpha=True)
        for text, chosen, masked in (("", [0, 1, 2], True), ("1-4", [0, 1, 2, 3], False), ("Band 4,1", [3, 0], False), ("2", [1], True)):
            with Raster(path, text) as raster:
                got, valid = whole(raster)
                assert np.array_equal(got, pixels[chosen])
                assert np.array_equal(valid, np.broadcast_to(pixels[3] > 0, got.shape) if masked else np.ones(got.shape, bool))
                turned, valid = raster.read_on(raster.grid.rotated(180), "nearest")
                assert np.array_equal(turned[valid], pixels[chosen][:, ::-1, ::-1][valid]) and valid.all() != masked

    def test_a_raster_of_nothing_but_alpha(self, tmp_path):
        path = tif(tmp_path / "a.tif", np.zeros((1, 5, 5), np.uint8))
        dataset = gdal.Open(path, gdal.GA_Update)
        dataset.GetRasterBand(1).SetColorInterpretation(gdal.GCI_AlphaBand)
        del dataset
        with pytest.raises(BandError, match="no band with data"):
            Raster(path)


class TestBadFiles:
    @pytest.mark.parametrize("name", ["missing.tif", "folder/missing.tif", "", "a\0b.tif", "/vsizip/x.zip/a.tif", "NETCDF:nothing.nc:a"])
    def test_no_such_file(self, tmp_path, name, gdal_mode):
        with pytest.raises(RasterError, match="no file|can't be read") as error:
            Raster(name if name[:1] in ("/", "N") else str(tmp_path / name) if name else name)
        assert error.value.remedy

    @pytest.mark.parametrize("content", [b"", b"hello", b"II*\0" + b"\0" * 50, b"PK\x03\x04" + b"x" * 99, b"\x89PNG\r\n\x1a\n" + b"\0" * 9])
    def test_not_a_raster(self, tmp_path, content, gdal_mode, capfd):
        path = tmp_path / "a.tif"
        path.write_bytes(content)
        with pytest.raises(RasterError, match=r"a\.tif can't be read as a raster"):
            Raster(str(path))
        assert "ERROR" not in capfd.readouterr().err  # told once, as our error

    def test_a_folder_and_a_vector_file(self, tmp_path, gdal_mode):
        (tmp_path / "b.geojson").write_text('{"type": "FeatureCollection", "features": []}')
        for path in (tmp_path, tmp_path / "b.geojson"):
            with pytest.raises(RasterError):
                Raster(str(path))

    def test_a_cut_file_fails_when_its_missing_part_is_read(self, tmp_path, gdal_mode):
        path = Path(tif(tmp_path / "a.tif", RNG.integers(0, 255, (1, 400, 400), np.uint8), options=["TILED=YES"]))
        path.write_bytes(path.read_bytes()[:-60_000])
        with pytest.raises(RasterError, match="can't be read") as error, Raster(str(path)) as raster:
            whole(raster)
        assert "damaged" in error.value.remedy or "incomplete" in error.value.remedy

    @pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
    def test_complex_numbers_are_refused(self, tmp_path, dtype):
        with pytest.raises(BandError, match="complex"):
            Raster(tif(tmp_path / "a.tif", np.zeros((1, 3, 3), dtype)))

    def test_a_container_names_its_subdatasets(self, tmp_path):
        if not gdal.GetDriverByName("netCDF"):
            pytest.skip("this GDAL has no netCDF")
        path = tif(tmp_path / "a.tif", np.zeros((2, 6, 6), np.uint8))
        gdal.Translate(str(tmp_path / "a.nc"), path, format="netCDF")
        with pytest.raises(BandError) as error:
            Raster(str(tmp_path / "a.nc"))
        assert "Band2" in error.value.remedy


def plane(grid_transform, cols, rows, a=0.003, b=-0.002, c=7.0):
    """Values of a plane at pixel centres: bilinear interpolation gives it back exactly."""
    col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    t = grid_transform
    return (a * (t[0] + col * t[1] + row * t[2] - 500000) + b * (t[3] + col * t[4] + row * t[5] - 4500000) + c)[None]


class TestStack:
    @pytest.mark.parametrize(("transform", "error"), [
        ((499945.0, 10, 0, 4500055.0, 0, -10), 1e-6), ((499900.0, 13, 0, 4500100.0, 0, -17), 1e-6), ((499900.0, 7, 0, 4500100.0, 0, -6), 3e-3),
        ((499700.0, 11, 6, 4500100.0, 6, -11), 1e-2),  # finer or turned: GDAL's wider kernel is off by a few tenths of a pixel
    ])  # fmt: skip
    def test_a_plane_stays_a_plane_on_another_grid(self, tmp_path, transform, error):
        """Half a pixel off, coarser, turned, finer; whatever the window."""
        scene = tif(tmp_path / "a.tif", RNG.integers(0, 255, (1, 60, 50), np.uint8))
        other = tif(tmp_path / "b.tif", plane(transform, 130, 140).astype(np.float64), transform=transform)
        with Stack(scene, [other]) as stack:
            assert [b.dtype for b in stack.bands] == ["uint8", "float64"] and stack.dtype == np.float64
            got, valid = whole(stack)
            inside = valid[1].copy()
            inside[1:-1, 1:-1] &= valid[1][:-2, 1:-1] & valid[1][2:, 1:-1] & valid[1][1:-1, :-2] & valid[1][1:-1, 2:]
            assert inside.sum() > 500
            assert np.abs(got[1] - plane(UTM, 50, 60)[0])[inside].max() < error
            assert np.array_equal(got[0], gdal.Open(scene).ReadAsArray()) and valid[0].all()
            for window in blocks(50, 60, 23):
                part, part_valid = stack.read(window)
                assert np.array_equal(part_valid, valid[(slice(None), *window.slices)])
                assert np.allclose(part, got[(slice(None), *window.slices)], atol=1e-9)

    def test_another_crs(self, tmp_path):
        """A plane in longitude and latitude, read on the UTM grid, against PROJ's own longitudes."""
        scene = tif(tmp_path / "a.tif", np.zeros((1, 60, 50), np.uint8))
        transform = (-111.005, 2e-4, 0, 40.655, 0, -2e-4)
        col, row = np.meshgrid(np.arange(200) + 0.5, np.arange(200) + 0.5)
        other = tif(tmp_path / "b.tif", np.stack([-111.005 + col * 2e-4, 40.655 - row * 2e-4]), transform=transform, epsg=4326)
        with Stack(scene, [other]) as stack:
            got, valid = whole(stack)
        move = door.spatial_reference(wkt(32612)), door.spatial_reference(wkt(4326))
        lon, lat, _ = gdal.osr.CoordinateTransformation(*move).TransformPoint(500000 + 10 * 20.5, 4500000 - 10 * 30.5)
        assert valid.all() and abs(got[1, 30, 20] - lon) < 1e-9 and abs(got[2, 30, 20] - lat) < 1e-9

    def test_same_crs_written_otherwise_is_read_without_warping(self, tmp_path):
        pixels = RNG.random((1, 20, 20)).astype(np.float32)
        scene = tif(tmp_path / "a.tif", pixels)
        gdal.Translate(str(tmp_path / "b.img"), scene, format="HFA")
        with Stack(scene, [str(tmp_path / "b.img")]) as stack:
            got, _ = whole(stack)
            assert got[0].tobytes() == got[1].tobytes() == pixels[0].tobytes()

    @pytest.mark.parametrize("kind", ["nodata", "nan", "alpha", "mask", "nodata and alpha"])
    def test_what_hides_pixels_hides_them_after_warping(self, tmp_path, kind):
        shifted = (500000.0 - 100, 10, 0, 4500000.0 + 100, 0, -10)  # ten pixels off: nothing is interpolated
        pixels, seen = RNG.integers(1, 250, (2, 80, 80)).astype(np.float32), RNG.random((80, 80)) > 0.2
        expected = np.broadcast_to(seen, pixels.shape).copy()
        more = {}
        if "nodata" in kind:
            pixels[0][RNG.random((80, 80)) > 0.9] = 0
            expected = (pixels != 0) & (expected if "alpha" in kind else True)
            more["nodata"] = 0
        if "alpha" in kind:
            pixels, more["alpha"] = np.concatenate([pixels, np.where(seen, 255, 0)[None]]).astype(np.uint8), True
        elif kind == "mask":
            more["mask"] = seen
        elif kind == "nan":
            pixels[:, ~seen] = np.nan
        scene = tif(tmp_path / "a.tif", np.zeros((1, 50, 50), np.uint8))
        other = tif(tmp_path / "b.tif", pixels, transform=shifted, **more)
        with Stack(scene, [other], resampling="nearest") as stack:
            got, valid = whole(stack)
        cut = (slice(0, 2), slice(10, 60), slice(10, 60))
        assert np.array_equal(valid[1:], expected[cut])
        assert np.array_equal(got[1:][valid[1:]], pixels[cut][expected[cut]])

    def test_nodata_of_one_band_is_not_that_of_another(self, tmp_path):
        scene = tif(tmp_path / "a.tif", np.zeros((1, 20, 20), np.uint8))
        pixels = RNG.integers(0, 3, (2, 40, 40)).astype(np.int16)
        tif(tmp_path / "b.tif", pixels, transform=(499900, 10, 0, 4500100, 0, -10))
        parts = [
            gdal.Translate(str(tmp_path / f"{i}.tif"), str(tmp_path / "b.tif"), bandList=[i + 1], noData=n) for i, n in ((0, 0), (1, 2))
        ]
        gdal.BuildVRT(str(tmp_path / "b.vrt"), parts, separate=True).FlushCache()
        with Stack(scene, [str(tmp_path / "b.vrt")], resampling="nearest") as stack:
            got, valid = whole(stack)
        cut = pixels[:, 10:30, 10:30]
        assert np.array_equal(valid[1:], np.stack([cut[0] != 0, cut[1] != 2])) and np.array_equal(got[1:][valid[1:]], cut[valid[1:]])

    def test_outside_of_the_other_raster_is_not_valid(self, tmp_path):
        scene = tif(tmp_path / "a.tif", np.zeros((1, 30, 30), np.uint8))
        other = tif(tmp_path / "b.tif", np.full((1, 30, 30), 5, np.uint16), transform=(500100.0, 10, 0, 4500000.0, 0, -10))
        with Stack(scene, [other]) as stack:
            got, valid = whole(stack)
        assert (
            stack.dtype == np.uint16
            and np.array_equal(valid[1], np.broadcast_to(np.arange(30) >= 10, (30, 30)))
            and (got[1][valid[1]] == 5).all()
        )

    def test_bands_count_on_through_the_rasters(self, tmp_path):
        a, b = RNG.integers(0, 255, (2, 9, 9), np.uint8), RNG.integers(0, 255, (3, 9, 9), np.uint8)
        first, second = tif(tmp_path / "a.tif", a, names=["blue", "red"]), tif(tmp_path / "b.tif", b, names=["dem", "slope", "tpi"])
        with Stack(first, [second], "5,1,slope") as stack:
            assert [x.name for x in stack.bands] == ["tpi", "blue", "slope"]
            assert np.array_equal(whole(stack)[0], np.stack([b[2], a[0], b[1]]))
        with pytest.raises(BandError, match="Band 6 is missing"):
            Stack(first, [second], "6")

    def test_rounds_to_whole_numbers_and_keeps_within_the_dtype(self, tmp_path):
        scene = tif(tmp_path / "a.tif", np.zeros((1, 30, 30), np.uint8))
        other = tif(tmp_path / "b.tif", np.tile(np.array([0, 255], np.uint8), (1, 60, 30)), transform=(499903.0, 10, 0, 4500104.0, 0, -10))
        for resampling in ("bilinear", "cubic", "average", "nearest"):
            with Stack(scene, [other], resampling=resampling) as stack:
                got, valid = whole(stack)
                assert got.dtype == np.uint8 and valid.all() and abs(got[1].mean() - 127.5) < 5

    def test_rounds_to_the_nearest(self, tmp_path):
        """Three quarters of the way between whole numbers."""
        scene = tif(tmp_path / "a.tif", np.zeros((1, 20, 20), np.uint8))
        other = tif(
            tmp_path / "b.tif", np.broadcast_to(np.arange(60, dtype=np.int16), (1, 60, 60)), transform=(499902.5, 10, 0, 4500100.0, 0, -10)
        )
        with Stack(scene, [other]) as stack:
            assert np.array_equal(whole(stack)[0][1], np.broadcast_to(np.arange(20) + 10, (20, 20)))

    @pytest.mark.parametrize(("other", "error"), [
        ({"transform": (900000.0, 10, 0, 4500000.0, 0, -10)}, "does not lie over"), ({"epsg": 32613}, "does not lie over"), ({"epsg": 0}, "has no CRS"),
        ({"epsg": 0, "transform": None}, "has no CRS"),
    ])  # fmt: skip
    def test_no_overlap_or_no_crs(self, tmp_path, other, error, gdal_mode):
        scene = tif(tmp_path / "a.tif", np.zeros((1, 30, 30), np.uint8))
        with pytest.raises(GridMismatchError, match=error) as raised:
            Stack(scene, [tif(tmp_path / "b.tif", np.zeros((1, 31, 30), np.uint8), **other)])
        assert raised.value.remedy

    def test_without_georeference_only_the_same_size_fits(self, tmp_path):
        a, b = (tif(tmp_path / n, RNG.integers(0, 255, (1, 9, 9), np.uint8), transform=None, epsg=0) for n in ("a.tif", "b.tif"))
        with Stack(a, [b]) as stack:
            assert not stack.grid.georeferenced
            assert np.array_equal(whole(stack)[0], np.stack([gdal.Open(a).ReadAsArray(), gdal.Open(b).ReadAsArray()]))
        c = tif(tmp_path / "c.tif", np.zeros((1, 8, 9), np.uint8), transform=None, epsg=0)
        with pytest.raises(GridMismatchError, match="not georeferenced"):
            Stack(a, [c])

    def test_pixels_without_area_are_no_georeference(self, tmp_path):
        path = tif(tmp_path / "a.tif", np.zeros((1, 9, 9), np.uint8), transform=None, epsg=0)
        text = gdal.Translate(str(tmp_path / "a.vrt"), path, format="VRT")
        del text
        vrt = (tmp_path / "a.vrt").read_text().replace("<VRTRasterBand", "<GeoTransform>0,0,0,0,0,0</GeoTransform><VRTRasterBand", 1)
        (tmp_path / "a.vrt").write_text(vrt)
        with Raster(str(tmp_path / "a.vrt")) as raster:
            assert not raster.grid.georeferenced and tuple(raster.grid.to_pixel(*raster.grid.to_map(3, 4))) == (3, 4)

    def test_signed_bytes_are_warped_rightly_or_refused(self, tmp_path):
        scene = tif(tmp_path / "a.tif", np.zeros((1, 20, 20), np.uint8))
        other = tif(tmp_path / "b.tif", np.full((1, 40, 40), -5, np.int8), transform=(499905.0, 10, 0, 4500105.0, 0, -10))
        if gdal.VersionInfo() < "3070000":
            with pytest.raises(BandError, match="signed bytes"):
                Stack(scene, [other])
        else:
            with Stack(scene, [other]) as stack:
                assert (whole(stack)[0][1] == -5).all()


class TestTurnedGrids:
    @pytest.mark.parametrize("place", [{}, {"transform": None, "epsg": 0}])
    def test_a_turn_by_a_quarter_is_rot90(self, tmp_path, place):
        pixels = RNG.integers(0, 255, (2, 40, 40), np.uint8)
        with Raster(tif(tmp_path / "a.tif", pixels, **place)) as raster:
            for quarters in range(4):
                got, valid = raster.read_on(raster.grid.rotated(90 * quarters), "nearest")
                assert valid.all() and np.array_equal(got, np.rot90(pixels, -quarters, axes=(1, 2)))

    def test_there_and_back(self):
        grid = Grid(40, 30, UTM, wkt(32612))
        assert grid.rotated(33).rotated(-33).same_pixels(grid) and not grid.rotated(33).same_pixels(grid)
        assert np.allclose(grid.rotated(33).pixel_size, (10, 10))
        assert np.allclose(grid.rotated(33).to_map(20, 15), grid.to_map(20, 15))
        assert np.allclose(grid.rotated(33).to_pixel(*grid.rotated(33).to_map(3, 7)), (3, 7))
        assert np.allclose(grid.rotated(33).areas_m2(), grid.areas_m2().mean(), rtol=1e-4)

    def test_parts_lie_where_they_were_cut(self):
        grid = Grid(40, 30, (0, 3, 1, 0, -1, -3), "")
        part = grid.part(Window(5, 6, 7, 8))
        assert (part.width, part.height) == (7, 8) and part.to_map(1, 2) == grid.to_map(6, 8)


class TestAreas:
    @staticmethod
    def zone(latitude):
        """Snyder (1987), eq. 3-12: m2 from the equator to a latitude, per radian, on WGS84."""
        a, e2 = 6378137.0, 0.0066943799901413165
        s, e = np.sin(np.deg2rad(latitude)), math.sqrt(e2)
        return a * a * (1 - e2) / 2 * (s / (1 - e2 * s * s) - np.log((1 - e * s) / (1 + e * s)) / (2 * e))

    @pytest.mark.parametrize(
        ("size", "transform"),
        [((100, 80), (-112, 3e-4, 0, 41, 0, -3e-4)), ((360, 180), (-180, 1, 0, 90, 0, -1)), ((50, 40), (10, 0.1, 0, -60, 0, 0.1))],
    )
    def test_geographic_cells(self, size, transform):
        areas = Grid(*size, transform, wkt(4326)).areas_m2()
        lines = transform[3] + transform[5] * np.arange(size[1] + 1)
        exact = np.abs(np.diff(self.zone(lines))) * np.deg2rad(transform[1])
        assert areas.shape == size[::-1] and np.allclose(areas, exact[:, None], rtol=1e-8)

    def test_the_whole_earth(self):
        assert Grid(360, 180, (-180, 1, 0, 90, 0, -1), wkt(4326)).areas_m2().sum() == pytest.approx(5.10065621724e14, rel=1e-9)

    def test_utm_has_its_scale_factor_on_the_central_meridian(self):
        assert np.allclose(Grid(10, 10, UTM, wkt(32612)).areas_m2(), 100 / 0.9996**2, rtol=1e-6)

    def test_web_mercator_at_60_degrees_is_a_quarter(self):
        y = 6378137 * math.log(math.tan(math.radians(75)))
        areas = Grid(4, 4, (0, 1, 0, y, 0, -1), wkt(3857)).areas_m2()
        degrees = math.degrees(2 * math.atan(math.exp((y - np.arange(5)[0]) / 6378137)) - math.pi / 2)
        step = math.degrees(2 * math.atan(math.exp((y - 1) / 6378137)) - math.pi / 2)
        assert areas[0, 0] == pytest.approx((self.zone(degrees) - self.zone(step)) / 6378137, rel=1e-6)
        assert areas.mean() == pytest.approx(0.25, rel=0.005)
        assert Grid(4, 4, (0, 1, 0, y, 0, -1), wkt(3857)).pixel_size_m == pytest.approx(0.5, rel=0.005)

    def test_an_equal_area_projection_is_what_it_says(self):
        assert np.allclose(Grid(400, 300, (4e6, 1000, 0, 3e6, 0, -1000), wkt(3035)).areas_m2(), 1e6, rtol=1e-3)
        assert np.allclose(Grid(40, 30, (4e6, 30, 0, 3e6, 0, -30), wkt(3035)).areas_m2(), 900, rtol=1e-5)

    @pytest.mark.parametrize(
        ("epsg", "transform"), [(4326, (-112, 0.01, 0, 41, 0, -0.01)), (3857, (0, 500, 0, 8e6, 0, -500)), (32612, UTM), (0, UTM)]
    )
    def test_windows_agree_with_the_whole(self, epsg, transform):
        grid = Grid(123, 77, transform, wkt(epsg) if epsg else "")
        everything = grid.areas_m2()
        for window in [*blocks(123, 77, 50), Window(122, 76, 1, 1), Window(0, 3, 123, 1), Window(60, 0, 2, 77)]:
            assert np.allclose(grid.areas_m2(window), everything[window.slices], rtol=1e-12), window

    def test_without_crs_and_with_a_local_one(self):
        assert (Grid(3, 2, (0, 2, 0, 0, 0, -3)).areas_m2() == 6).all() and Grid(3, 2).pixel_size_m is None
        feet = Grid(3, 2, (0, 2, 0, 0, 0, -3), 'LOCAL_CS["site",UNIT["foot",0.3048]]')
        assert np.allclose(feet.areas_m2(), 6 * 0.3048**2)

    def test_a_crs_that_nobody_can_read(self, gdal_mode):
        with pytest.raises(RasterError, match="coordinate reference"):
            Grid(3, 2, UTM, "no wkt").areas_m2()


def write(path, pixels, size=100, grid=None, nodata=None, **more):
    with Writer(
        str(path), grid or Grid(pixels.shape[2], pixels.shape[1], UTM, wkt(32612)), len(pixels), pixels.dtype, nodata, **more
    ) as writer:
        for window in blocks(pixels.shape[2], pixels.shape[1], size):
            writer.write(window, pixels[(slice(None), *window.slices)])


def left(folder):
    return sorted(os.listdir(folder))


class TestWriter:
    @pytest.mark.parametrize("compression", ["DEFLATE", "ZSTD", "LZW", "NONE"])
    @pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
    def test_gdal_reads_what_was_written(self, tmp_path, dtype, compression):
        pixels = RNG.integers(-100, 100, (2, 70, 300)).astype(dtype)
        write(tmp_path / "a.tif", pixels, compression=compression)
        dataset = gdal.Open(str(tmp_path / "a.tif"))
        back = dataset.ReadAsArray()
        assert (back.view(np.int8) if dtype == "int8" else back).tobytes() == pixels.tobytes()
        assert dataset.GetMetadataItem("COMPRESSION", "IMAGE_STRUCTURE") == (None if compression == "NONE" else compression)
        assert dataset.GetRasterBand(1).GetBlockSize() == [256, 256] and dataset.GetGeoTransform() == UTM
        with Raster(str(tmp_path / "a.tif")) as raster:
            assert raster.dtype == dtype

    def test_all_that_a_map_carries(self, tmp_path):
        pixels = RNG.integers(0, 3, (1, 700, 600)).astype(np.uint8)
        pixels[0, :300] = 255
        write(
            tmp_path / "a.tif", pixels, nodata=255, names=["class"], categories=["land", "", "Wasser größer"], colours={0: (1, 2, 3), 2: (4, 5, 6)},
            metadata={"WATERDL_MODEL": 'm "x" <é>', "N": 3}, description="words",
        )  # fmt: skip
        dataset = gdal.Open(str(tmp_path / "a.tif"))
        band = dataset.GetRasterBand(1)
        assert (
            band.GetNoDataValue() == 255 and band.GetDescription() == "class" and band.GetCategoryNames() == ["land", "", "Wasser größer"]
        )
        assert band.GetColorTable().GetColorEntry(2) == (4, 5, 6, 255) and dataset.GetMetadataItem("WATERDL_MODEL") == 'm "x" <é>'
        assert dataset.GetMetadataItem("N") == "3" and dataset.GetMetadataItem("TIFFTAG_IMAGEDESCRIPTION") == "words"
        assert [band.GetOverview(i).XSize for i in range(band.GetOverviewCount())] == [300]
        assert set(np.unique(band.GetOverview(0).ReadAsArray())) == {0, 1, 2, 255}  # classes are not averaged
        assert left(tmp_path) == ["a.tif", "a.tif.aux.xml"]

    def test_overviews_of_numbers_are_means_without_nodata(self, tmp_path):
        pixels = np.full((1, 600, 600), 2.0, np.float32)
        pixels[0, ::2] = -1
        write(tmp_path / "a.tif", pixels, nodata=-1)
        dataset = gdal.Open(str(tmp_path / "a.tif"))
        overview = dataset.GetRasterBand(1).GetOverview(0).ReadAsArray()
        assert overview.shape == (300, 300) and (overview == 2).all()

    def test_what_was_not_written_is_nodata(self, tmp_path):
        with Writer(str(tmp_path / "a.tif"), Grid(600, 600), 1, np.float32, -1) as writer:
            writer.write(Window(0, 0, 10, 10), np.ones((1, 10, 10), np.float32))
        back = gdal.Open(str(tmp_path / "a.tif")).ReadAsArray()
        assert (back == -1).sum() == 600 * 600 - 100 and not gdal.Open(str(tmp_path / "a.tif")).GetProjection()

    def test_large_files_become_bigtiff(self, tmp_path):
        for side, version in ((1000, b"*\0"), (50_000, b"+\0")):  # 43 marks BigTIFF; the file is sparse
            options = writers._options(np.dtype(np.uint8), "DEFLATE")
            dataset = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "a.tif"), side, side, 1, gdal.GDT_Byte, options)
            del dataset
            assert (tmp_path / "a.tif").read_bytes()[2:4] == version

    def test_an_older_file_and_all_that_hangs_on_it_is_replaced(self, tmp_path):
        write(tmp_path / "a.tif", np.zeros((1, 9, 9), np.uint8), categories=["old"])
        for suffix in (".ovr", ".msk", ".partial", ".partial.aux.xml"):
            (tmp_path / f"a.tif{suffix}").write_text("<PAMDataset><Metadata><MDI key='OLD'>1</MDI></Metadata></PAMDataset>")
        write(tmp_path / "a.tif", np.ones((1, 8, 8), np.int16))
        assert left(tmp_path) == ["a.tif"]
        dataset = gdal.Open(str(tmp_path / "a.tif"))
        assert (dataset.ReadAsArray() == 1).all() and not dataset.GetRasterBand(1).GetCategoryNames() and "OLD" not in dataset.GetMetadata()

    @pytest.mark.parametrize("error", [ValueError, Cancelled, KeyboardInterrupt])
    @pytest.mark.parametrize("old", [True, False])
    def test_after_an_error_or_cancel_there_is_nothing_new(self, tmp_path, error, old, gdal_mode):
        path = tmp_path / "a.tif"
        if old:
            write(path, np.full((1, 5, 5), 9, np.uint8), categories=["old"])
        before = {name: (tmp_path / name).read_bytes() for name in left(tmp_path)}
        with pytest.raises(error), Writer(str(path), Grid(600, 600), 1, np.uint8, 255, categories=["a"], metadata={"a": "b"}) as writer:
            writer.write(Window(0, 0, 600, 300), np.zeros((1, 300, 600), np.uint8))
            raise error()
        assert {name: (tmp_path / name).read_bytes() for name in left(tmp_path)} == before
        write(path, np.ones((1, 5, 5), np.uint8))
        assert (gdal.Open(str(path)).ReadAsArray() == 1).all()

    @pytest.mark.parametrize("old", [True, False])
    def test_after_a_kill_no_file_looks_finished(self, tmp_path, old):
        path = tmp_path / "a.tif"
        if old:
            write(path, np.full((1, 5, 5), 9, np.uint8))
        before = path.read_bytes() if old else None
        code = f"""
import numpy as np, time
from water_dl_plugin.engine.raster import *
from water_dl_plugin.engine.windows import Window
with Writer({str(path)!r}, Grid(3000, 3000), 1, np.uint8, 255, categories=["a"]) as w:
    for row in range(0, 3000, 100):
        w.write(Window(0, row, 3000, 100), np.random.default_rng(row).integers(0, 9, (1, 100, 3000)).astype(np.uint8))
        w._dataset.FlushCache()
        print(row, flush=True)
"""
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        while process.stdout.readline().strip() != "1500":
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert (path.read_bytes() if path.exists() else None) == before
        assert not [n for n in left(tmp_path) if n.endswith((".tif", ".tif.aux.xml"))] or old
        write(path, np.ones((1, 5, 5), np.uint8))
        assert left(tmp_path) == ["a.tif"] and (gdal.Open(str(path)).ReadAsArray() == 1).all()

    @pytest.mark.parametrize("name", ["missing/a.tif", "file/a.tif", "folder.tif", "a.png", "a", "x" * 300 + ".tif"])
    def test_places_that_can_not_be_written(self, tmp_path, name, gdal_mode):
        (tmp_path / "folder.tif").mkdir()
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError) as error:
            Writer(str(tmp_path / name), Grid(5, 5), 1, np.uint8)
        assert error.value.remedy and left(tmp_path) == ["file", "folder.tif"] and not left(tmp_path / "folder.tif")

    def test_no_map_without_the_names_of_its_classes(self, tmp_path):
        """GDAL only warns when it can't write them; here a folder is in their place."""
        (tmp_path / "a.tif.partial.aux.xml").mkdir()
        with pytest.raises(OutputError, match="class names"):
            write(tmp_path / "a.tif", np.zeros((1, 9, 9), np.uint8), categories=["a"])
        assert left(tmp_path) == ["a.tif.partial.aux.xml"]

    def test_a_failure_in_making_it_leaves_nothing(self, tmp_path):
        with pytest.raises(TypeError):
            Writer(str(tmp_path / "a.tif"), Grid(5, 5), 1, np.uint8, colours={0: "red"})
        assert left(tmp_path) == []


def open_files():
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            yield os.readlink(f"/proc/self/fd/{number}")


@pytest.fixture
def small_disk(tmp_path):
    """Makes a file system of so many kB; needs root."""
    made = []

    def mount(kilobytes, *options):
        where = tmp_path / f"disk{len(made)}"
        where.mkdir()
        run = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join([f"size={kilobytes}k", *options]), "tmpfs", str(where)], capture_output=True, text=True
        )
        if run.returncode:
            pytest.skip(f"no small disk can be mounted here: {run.stderr.strip()}")
        made.append(where)
        return where

    yield mount
    for where in made:
        subprocess.run(["umount", str(where)], check=True)


class TestFullDisk:
    @pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    )  # GDAL's own, while a dataset that can't be written closes
    def test_of_any_size_there_is_a_whole_file_or_an_error_and_none(self, small_disk, gdal_mode):
        rng = np.random.default_rng(1)
        pixels = rng.integers(0, 255, (1, 600, 600)).astype(np.uint8)
        results = []
        for kilobytes in (4, 40, 200, 352, 400, 440, 444, 448, 452, 456, 460, 480, 2000):
            where = small_disk(kilobytes)
            try:
                write(where / "a.tif", pixels, nodata=255, categories=["a", "b"], metadata={"key": "value"})
            except OutputError as error:
                assert "full" in error.remedy and left(where) == [], kilobytes
                assert not [name for name in open_files() if str(where) in name]  # Windows would not have removed it
                results.append(False)
            else:
                dataset = gdal.Open(str(where / "a.tif"))
                assert dataset.GetMetadataItem("key") == "value"  # first: GDAL 3.6 reads the names of classes only after this
                assert np.array_equal(dataset.ReadAsArray(), pixels[0]) and dataset.GetRasterBand(1).GetCategoryNames() == ["a", "b"], (
                    kilobytes
                )
                assert np.array_equal(dataset.GetRasterBand(1).GetOverview(0).ReadAsArray(), pixels[0, ::2, ::2]), kilobytes
                del dataset
                results.append(True)
        assert results[0] is False and results[-1] is True

    def test_a_chip(self, small_disk, gdal_mode):
        where = small_disk(40)
        with pytest.raises(OutputError):
            write_small(str(where / "a.tif"), RNG.integers(0, 255, (3, 200, 200), np.uint8), Grid(200, 200))
        assert left(where) == []

    def test_a_read_only_disk(self, small_disk):
        where = small_disk(400)
        subprocess.run(["mount", "-o", "remount,ro", str(where)], check=True)
        with pytest.raises(OutputError, match="Read-only"):
            Writer(str(where / "a.tif"), Grid(5, 5), 1, np.uint8)


class TestChips:
    @pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "float32", "float64"])
    def test_gdal_reads_them(self, tmp_path, dtype):
        pixels, valid = RNG.integers(-100, 100, (4, 30, 40)).astype(dtype), RNG.random((30, 40)) > 0.2
        grid = Grid(40, 30, UTM, wkt(32612))
        write_small(str(tmp_path / "a.tif"), pixels, grid, valid, names=["a", "b"])
        assert left(tmp_path) == ["a.tif"]  # the mask is inside
        with Raster(str(tmp_path / "a.tif")) as raster:
            got, seen = whole(raster)
            assert (
                raster.dtype == dtype and got.tobytes() == pixels.tobytes() and np.array_equal(seen, np.broadcast_to(valid, pixels.shape))
            )
            assert raster.grid.same_pixels(grid) and [b.name for b in raster.bands] == ["a", "b", "Band 3", "Band 4"]

    def test_the_mask_setting_of_others_is_left_alone(self, tmp_path):
        for before in (None, "NO"):
            gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", before)
            write_small(str(tmp_path / "a.tif"), np.zeros((1, 4, 4), np.uint8), Grid(4, 4), np.eye(4, dtype=bool))
            assert gdal.GetConfigOption("GDAL_TIFF_INTERNAL_MASK") == before
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", None)

    @pytest.mark.parametrize(("driver", "ending"), [("PNG", "png"), ("JPEG", "jpg")])
    def test_other_formats(self, tmp_path, driver, ending):
        path = str(tmp_path / f"a.{ending}")
        pixels = np.broadcast_to(np.arange(60, dtype=np.uint8), (3, 50, 60))
        write_small(path, pixels, Grid(60, 50, UTM, wkt(32612)), driver=driver)
        with Raster(path) as raster:
            assert np.abs(whole(raster)[0].astype(int) - pixels).max() <= (0 if driver == "PNG" else 8)
            assert np.allclose(raster.grid.transform, UTM)

    def test_a_format_that_can_not_hold_it(self, tmp_path, gdal_mode):
        with pytest.raises(OutputError):
            write_small(str(tmp_path / "a.jpg"), np.zeros((7, 9, 9), np.float32), Grid(9, 9), driver="JPEG")
        assert left(tmp_path) == []


def test_reading_does_not_disturb_what_is_being_written(tmp_path):
    """A raster is read by one thread while another writes, with a block cache that is far too small."""
    pixels = RNG.integers(0, 255, (3, 1500, 1500), np.uint8)
    path = tif(tmp_path / "a.tif", pixels, options=["TILED=YES"])
    before = gdal.GetCacheMax()
    gdal.SetCacheMax(500_000)
    try:
        from water_dl_plugin.engine.infer import read_ahead

        with Raster(path) as raster, Writer(str(tmp_path / "b.tif"), raster.grid, 3, np.uint8) as writer:
            for window, (got, _) in read_ahead(raster.read, list(blocks(1500, 1500, 190)), 4):
                writer.write(window, got)
    finally:
        gdal.SetCacheMax(before)
    assert np.array_equal(gdal.Open(str(tmp_path / "b.tif")).ReadAsArray(), pixels)
