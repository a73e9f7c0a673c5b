"""Raster and model -> class raster and probability raster: the values, and all that can be wrong."""

from __future__ import annotations

import json
import os
import tracemalloc

import numpy as np
import pytest
from onnx import helper
from osgeo import gdal

from tests import road
from water_dl_plugin.engine import bundle, mapping
from water_dl_plugin.engine.errors import BandError, Cancelled, ConfigError, GridMismatchError, ModelError, OutputError, RasterError
from water_dl_plugin.engine.infer import predict
from water_dl_plugin.engine.mapping import map_classes
from water_dl_plugin.engine.raster import Stack
from water_dl_plugin.engine.settings import InferConfig
from water_dl_plugin.engine.version import version

RNG = np.random.default_rng(0)
SMALL = InferConfig(window=32, overlap=8, device="cpu", threads=1)


def water_model(path, bands=1, **info) -> str:
    """Says that the mean of 3 x 3 pixels and all bands is the probability of water."""
    return road.mean3(path, bands, props={"waterdl": road.waterdl(bands, margin=1, **info)})


def classes_model(path, names=("land", "water", "ice"), values=(3, 7, 0)) -> str:
    """Gives its bands back as the probabilities of its classes."""
    data = road.waterdl(len(names), names)
    for item, value in zip(data["classes"], values):
        item["value"] = value
    return road.identity(path, len(names), props={"waterdl": data})


def opened(path):
    dataset = gdal.Open(str(path))
    dataset.GetMetadata()
    pixels = dataset.ReadAsArray()
    return dataset, pixels if pixels.ndim == 3 else pixels[None]


@pytest.fixture
def scene(tmp_path):
    """70 x 50 pixels, 0..1, with nodata -9999 at the left and in dots."""
    image = RNG.random((1, 50, 70)).astype(np.float32)
    image[0, :, :5] = image[0, 10:12, 40:43] = -9999
    return road.tif(tmp_path / "scene.tif", image, -9999), image


class TestTwoClasses:
    @pytest.mark.parametrize("threshold", [None, 0.4, 0.52])
    def test_values_names_colours_and_figures(self, tmp_path, scene, threshold):
        path, image = scene
        model = water_model(tmp_path / "m.onnx", threshold=0.45)
        lines = []
        config = InferConfig(window=32, overlap=8, device="cpu", threshold=threshold)
        mapped = map_classes(
            path, model, str(tmp_path / "c.tif"), config, probability=str(tmp_path / "p.tif"), progress=lambda f, m="": lines.append(m)
        )
        dataset, (found,) = opened(tmp_path / "c.tif")
        (chances,) = opened(tmp_path / "p.tif")[1]
        holes = image[0] == -9999
        with Stack(path) as source:
            loaded = mapping.OnnxModel(model, "cpu")
            expected = np.zeros(found.shape, np.float32)
            for window, values, _ in predict(source, loaded, config):
                expected[window.slices] = values[0]
        assert found.dtype == np.uint8 and chances.dtype == np.float32
        assert np.array_equal(chances, np.where(holes, -1, expected))
        assert np.array_equal(found, np.where(holes, 255, expected >= np.float32(threshold or 0.45)))
        band, chance_band = dataset.GetRasterBand(1), gdal.Open(str(tmp_path / "p.tif"))
        assert band.GetNoDataValue() == 255 and band.GetCategoryNames() == ["land", "water"]
        assert band.GetColorTable().GetColorEntry(1) == (10, 20, 30, 255)
        assert chance_band.RasterCount == 1 and chance_band.GetRasterBand(1).GetNoDataValue() == -1
        assert chance_band.GetRasterBand(1).GetDescription() == "probability of water"
        assert (
            mapped.nodata == holes.sum()
            and mapped.pixels == ((found == 0).sum(), (found == 1).sum())
            and mapped.provider == "CPUExecutionProvider"
        )
        tags = dataset.GetMetadata()
        assert tags["WATERDL_VERSION"] == version() and float(tags["WATERDL_THRESHOLD"]) == (threshold or 0.45)
        assert tags["WATERDL_MODEL"] == f"m.onnx {bundle.file_hash(model)}" and tags["WATERDL_SOURCE"] == "scene.tif"
        assert json.loads(tags["WATERDL_SETTINGS"])["overlap"] == 8 and [c["name"] for c in json.loads(tags["WATERDL_CLASSES"])] == [
            "land",
            "water",
        ]
        assert dataset.GetGeoTransform() == road.UTM and "UTM zone 12N" in dataset.GetProjection()
        assert any("CPU" in line and "32 px" in line for line in lines) and any("land" in line and "%" in line for line in lines)

    def test_either_output_alone(self, tmp_path, scene):
        model = water_model(tmp_path / "m.onnx")
        os.mkdir(tmp_path / "out")
        map_classes(scene[0], model, "", SMALL, probability=str(tmp_path / "out" / "p.tif"))
        assert os.listdir(tmp_path / "out") == ["p.tif"]
        map_classes(scene[0], model, str(tmp_path / "out" / "c.tif"), SMALL)
        assert sorted(os.listdir(tmp_path / "out")) == ["c.tif", "c.tif.aux.xml", "p.tif"]

    def test_a_raster_of_nothing_but_nodata(self, tmp_path):
        path = road.tif(tmp_path / "a.tif", np.full((1, 40, 40), 7, np.uint8), 7)
        mapped = map_classes(path, water_model(tmp_path / "m.onnx"), str(tmp_path / "c.tif"), SMALL, probability=str(tmp_path / "p.tif"))
        assert (opened(tmp_path / "c.tif")[1] == 255).all() and (opened(tmp_path / "p.tif")[1] == -1).all()
        assert mapped.pixels == (0, 0) and mapped.nodata == 1600

    def test_what_the_network_can_not_say_is_nodata(self, tmp_path):
        """A division by zero inside the network."""
        node = helper.make_node("Div", ["image", "image"], ["out"])
        model = road.onnx_file(tmp_path / "m.onnx", [node], props={"waterdl": road.waterdl()})
        image = RNG.integers(0, 2, (1, 40, 40)).astype(np.float32)
        mapped = map_classes(
            road.tif(tmp_path / "a.tif", image), model, str(tmp_path / "c.tif"), SMALL, probability=str(tmp_path / "p.tif")
        )
        assert np.array_equal(opened(tmp_path / "c.tif")[1], np.where(image == 0, 255, 1)) and mapped.nodata == (image == 0).sum()
        assert np.array_equal(opened(tmp_path / "p.tif")[1], np.where(image == 0, -1, 1))

    def test_an_area_of_interest(self, tmp_path, scene):
        area = tmp_path / "area.geojson"
        left, top, pixel = 500000, 4500000, 10
        ring = [[left + pixel * c, top - pixel * r] for c, r in ((20, 5), (60, 5), (60, 30), (20, 30), (20, 5))]
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32612"}}
        area.write_text(
            json.dumps(
                {
                    "type": "FeatureCollection",
                    "crs": crs,
                    "features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}],
                }
            )
        )
        model = water_model(tmp_path / "m.onnx")
        map_classes(scene[0], model, str(tmp_path / "c.tif"), SMALL, area=str(area))
        map_classes(scene[0], model, str(tmp_path / "all.tif"), SMALL)
        everywhere, found = opened(tmp_path / "all.tif")[1][0], opened(tmp_path / "c.tif")[1][0]
        inside = np.zeros(found.shape, bool)
        inside[5:30, 20:60] = True
        assert np.array_equal(found, np.where(inside, everywhere, 255))

    def test_two_rasters(self, tmp_path, scene):
        """The second one lies elsewhere; where it doesn't reach there is nothing, unless one band is enough."""
        other = road.tif(tmp_path / "other.tif", np.full((1, 60, 40), 0.5, np.float32), transform=(500300.0, 10, 0, 4500000.0, 0, -10))
        model = water_model(tmp_path / "m.onnx", 2)
        map_classes(scene[0], model, str(tmp_path / "c.tif"), SMALL, stack=[other], probability=str(tmp_path / "p.tif"))
        holes = (scene[1][0] == -9999) | (np.arange(70) < 30)
        assert np.array_equal(opened(tmp_path / "c.tif")[1][0] == 255, holes)
        everything = InferConfig(window=32, overlap=8, nodata="all", device="cpu")
        map_classes(scene[0], model, str(tmp_path / "c.tif"), everything, stack=[other])
        assert np.array_equal(opened(tmp_path / "c.tif")[1][0] == 255, (scene[1][0] == -9999) & (np.arange(70) < 30))


class TestSeveralClasses:
    def test_the_most_probable_one_by_its_own_value(self, tmp_path):
        image = RNG.random((3, 60, 45)).astype(np.float32)
        mapped = map_classes(
            road.tif(tmp_path / "a.tif", image),
            classes_model(tmp_path / "m.onnx"),
            str(tmp_path / "c.tif"),
            SMALL,
            probability=str(tmp_path / "p.tif"),
        )
        dataset, found = opened(tmp_path / "c.tif")
        assert np.array_equal(found[0], np.array([3, 7, 0])[image.argmax(0)])
        assert dataset.GetRasterBand(1).GetCategoryNames() == ["ice", "", "", "land", "", "", "", "water"]
        assert mapped.pixels == tuple((image.argmax(0) == k).sum() for k in range(3))
        dataset, chances = opened(tmp_path / "p.tif")
        assert chances.tobytes() == image.tobytes()
        assert [dataset.GetRasterBand(i).GetDescription() for i in (1, 2, 3)] == [f"probability of {n}" for n in ("land", "water", "ice")]

    def test_bands_in_the_order_that_is_asked_for(self, tmp_path):
        image = RNG.random((4, 30, 30)).astype(np.float32)
        path = road.tif(tmp_path / "a.tif", image, names=["w", "x", "y", "z"])
        config = InferConfig(window=32, overlap=8, bands="z,1,3", device="cpu")
        map_classes(path, classes_model(tmp_path / "m.onnx"), "", config, probability=str(tmp_path / "p.tif"))
        assert np.array_equal(opened(tmp_path / "p.tif")[1], image[[3, 0, 2]])

    def test_254_as_the_highest_value(self, tmp_path):
        image = RNG.random((2, 20, 20)).astype(np.float32)
        map_classes(
            road.tif(tmp_path / "a.tif", image), classes_model(tmp_path / "m.onnx", ("a", "b"), (0, 254)), str(tmp_path / "c.tif"), SMALL
        )
        dataset, found = opened(tmp_path / "c.tif")
        assert set(np.unique(found)) == {0, 254} and dataset.GetRasterBand(1).GetCategoryNames()[254] == "b"

    def test_a_model_from_elsewhere(self, tmp_path):
        image = RNG.integers(0, 255, (3, 40, 40), np.uint8)
        props = {"class_names": {"0": "land", "1": "water", "2": "ice"}, "model_type": '"Segmentor"'}
        mapped = map_classes(
            road.tif(tmp_path / "a.tif", image),
            road.identity(tmp_path / "m.onnx", 3, props=props),
            str(tmp_path / "c.tif"),
            SMALL,
            probability=str(tmp_path / "p.tif"),
        )
        assert [c.name for c in mapped.classes] == ["land", "water", "ice"]
        assert np.allclose(opened(tmp_path / "p.tif")[1], image / 255, atol=1e-6)
        assert np.array_equal(opened(tmp_path / "c.tif")[1][0], image.argmax(0))


class TestWrongInput:
    """Each ends in a typed error with a remedy, and no output file."""

    @pytest.mark.parametrize(("kind", "error"), [
        ("nothing to write", ConfigError), ("overlap as large as the window", ConfigError), ("same output twice", ConfigError), ("output is input", ConfigError),
        ("no such raster", RasterError), ("no such model", ModelError), ("not a model", ModelError), ("other number of bands", ModelError), ("band missing", BandError),
        ("other task", ModelError), ("output folder missing", OutputError), ("probability folder missing", OutputError), ("output no tif", OutputError),
        ("stack elsewhere", GridMismatchError), ("margin", ConfigError), ("cancel", Cancelled),
    ])  # fmt: skip
    def test_it(self, tmp_path, scene, kind, error):
        out = tmp_path / "out"
        out.mkdir()
        path, model = scene[0], water_model(tmp_path / "m.onnx")
        output, probability, config, more = str(out / "c.tif"), str(out / "p.tif"), SMALL, {}
        elsewhere = road.tif(tmp_path / "else.tif", np.zeros((1, 9, 9), np.float32), transform=(900000.0, 10, 0, 4500000.0, 0, -10))
        if kind == "nothing to write":
            output = probability = ""
        elif kind.startswith("overlap"):
            config = InferConfig(window=32, overlap=32)
        elif kind == "same output twice":
            probability = str(tmp_path / "out" / ".." / "out" / "c.tif")
        elif kind == "output is input":
            output = path
        elif kind == "no such raster":
            path = str(tmp_path / "missing.tif")
        elif kind == "no such model":
            model = str(tmp_path / "missing.onnx")
        elif kind == "not a model":
            model = path
        elif kind == "other number of bands":
            model = water_model(tmp_path / "m.onnx", 2)
        elif kind == "band missing":
            config = InferConfig(bands="2")
        elif kind == "other task":
            model = water_model(tmp_path / "m.onnx", task="regression", classes=[])
        elif kind == "output folder missing":
            output = str(tmp_path / "missing" / "c.tif")
        elif kind == "probability folder missing":
            probability = str(tmp_path / "missing" / "p.tif")
        elif kind == "output no tif":
            output = str(out / "c.png")
        elif kind == "stack elsewhere":
            more["stack"], model = [elsewhere], water_model(tmp_path / "m.onnx", 2)
        elif kind == "margin":
            config = InferConfig(window=32, overlap=1)
        elif kind == "cancel":

            def progress(fraction, message=""):
                if fraction > 0.3:
                    raise Cancelled()

            more["progress"] = progress
        before = (tmp_path / "scene.tif").read_bytes()
        with pytest.raises(error) as raised:
            map_classes(path, model, output, config, probability=probability, **more)
        assert os.listdir(out) == [] and (tmp_path / "scene.tif").read_bytes() == before
        assert raised.value.remedy or kind == "cancel"

    def test_the_bands_that_are_wanted_are_named(self, tmp_path, scene):
        with pytest.raises(ModelError, match=r"wants 2 bands \(B1, B2\), the raster gives 1"):
            map_classes(scene[0], water_model(tmp_path / "m.onnx", 2), str(tmp_path / "c.tif"), SMALL)

    def test_an_older_map_stays_when_the_new_one_fails(self, tmp_path, scene):
        model, output = water_model(tmp_path / "m.onnx"), tmp_path / "c.tif"
        map_classes(scene[0], model, str(output), SMALL)
        before = output.read_bytes()

        def progress(fraction, message=""):
            if fraction > 0.5:
                raise Cancelled()

        with pytest.raises(Cancelled):
            map_classes(scene[0], model, str(output), SMALL, progress=progress)
        assert output.read_bytes() == before and not os.path.exists(f"{output}.partial")


def test_doubts_are_told(tmp_path, scene):
    lines = []
    model = water_model(tmp_path / "m.onnx", pixel_size_m=30.0)
    map_classes(scene[0], model, str(tmp_path / "c.tif"), SMALL, progress=lambda f, m="": lines.append(m))
    assert any("10 m" in line and "30 m" in line for line in lines)
    image = road.tif(tmp_path / "b.tif", RNG.random((2, 20, 20)).astype(np.float32), names=["B2", "B1"])
    lines.clear()
    map_classes(image, water_model(tmp_path / "m.onnx", 2), str(tmp_path / "c.tif"), SMALL, progress=lambda f, m="": lines.append(m))
    assert any("B2, B1" in line for line in lines)
    lines.clear()
    map_classes(image, road.identity(tmp_path / "k.onnx", 2), str(tmp_path / "c.tif"), SMALL, progress=lambda f, m="": lines.append(m))
    assert any("normalisation" in line for line in lines)


def test_memory_does_not_grow_with_the_raster(tmp_path):
    """6000 x 6000 px: the probabilities alone would be 144 MB."""
    dataset = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "a.tif"), 6000, 6000, 1, gdal.GDT_Byte, ["TILED=YES", "SPARSE_OK=TRUE"])
    dataset.GetRasterBand(1).WriteArray(np.ones((500, 500), np.uint8), 3000, 3000)
    del dataset
    config = InferConfig(window=512, overlap=16, batch_size=2, device="cpu")
    tracemalloc.start()
    try:
        mapped = map_classes(
            str(tmp_path / "a.tif"), water_model(tmp_path / "m.onnx"), str(tmp_path / "c.tif"), config, probability=str(tmp_path / "p.tif")
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(mapped.pixels) == 36_000_000 and abs(mapped.pixels[1] - 250_000) < 2500
    assert peak < 120e6, peak


def test_logits_are_not_taken_for_probabilities(tmp_path):
    """A foreign model without activation in its graph: refused with the remedy, and right with the activation set."""
    logits = RNG.normal(0, 3, (1, 40, 40)).astype(np.float32)
    path, model = road.tif(tmp_path / "s.tif", logits), road.identity(tmp_path / "m.onnx", 1)
    output = str(tmp_path / "c.tif")
    with pytest.raises(ModelError, match="activation"):
        map_classes(path, model, output, SMALL)
    assert not os.path.exists(output)
    map_classes(path, model, output, InferConfig(window=32, overlap=8, device="cpu", threads=1, activation="sigmoid"))
    np.testing.assert_array_equal(opened(output)[1][0], logits[0] >= 0)


def test_an_activation_is_not_applied_twice(tmp_path, scene):
    with pytest.raises(ConfigError, match="already"):
        map_classes(scene[0], water_model(tmp_path / "m.onnx"), str(tmp_path / "c.tif"), InferConfig(activation="sigmoid"))


def test_a_style_that_is_not_ours_stays(tmp_path):
    from water_dl_plugin.engine import styles
    from water_dl_plugin.engine.classes import MapClass

    path = tmp_path / "lake.tif"
    style = tmp_path / "lake.qml"
    styles.for_classes(str(path), [MapClass(0, "a<b", (1, 2, 3))])
    assert 'label="a&lt;b"' in style.read_text(encoding="utf-8") and 'color="#010203"' in style.read_text(encoding="utf-8")
    styles.for_classes(str(path), [MapClass(5, "c", (1, 2, 3))])
    assert 'value="5"' in style.read_text(encoding="utf-8")
    style.write_text("<qgis>mine</qgis>", encoding="utf-8")
    styles.for_classes(str(path), [MapClass(0, "a", (1, 2, 3))])
    assert style.read_text(encoding="utf-8") == "<qgis>mine</qgis>"
