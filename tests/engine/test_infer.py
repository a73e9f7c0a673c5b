"""The whole road: an identity network gives the image back bit for bit, a real one gives what it gives on the whole image."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from osgeo import gdal

from tests import road as helpers
from water_dl_plugin.engine import infer
from water_dl_plugin.engine.backends import OnnxModel
from water_dl_plugin.engine.errors import Cancelled, ConfigError, ModelError
from water_dl_plugin.engine.raster import Stack, Writer
from water_dl_plugin.engine.settings import InferConfig
from water_dl_plugin.engine.windows import Window, blocks

DOUBLE = ("int32", "uint32", "float64")  # hold numbers that float32 does not
DTYPES = ("uint8", "int8", "uint16", "int16", "float32", *DOUBLE)
_models: dict = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("infer")


def model(kind, bands, dtype="float32", **info):
    """A loaded model; loaded once."""
    key = (kind, bands, dtype)
    if key not in _models:
        with tempfile.TemporaryDirectory() as where:
            path = f"{where}/model.onnx"
            helpers.identity(path, bands, dtype) if kind == "identity" else helpers.mean3(path, bands)
            _models[key] = OnnxModel(path, "cpu", 1)
    loaded = _models[key]
    loaded.info = dataclasses.replace(loaded.info, **{"margin": 0, "multiple": 1, "chip_size": 256, **info})
    return loaded


def put_together(source, loaded, config, **more):
    """Values and holds of the whole raster; fails if a pixel comes twice or never."""
    shape = (source.grid.height, source.grid.width)
    values, holds, seen = np.zeros((loaded.channels, *shape), np.float64), np.zeros(shape, bool), np.zeros(shape, int)
    for window, given_, held in infer.predict(source, loaded, config, **more):
        values[(slice(None), *window.slices)], holds[window.slices] = given_, held
        seen[window.slices] += 1
        kind = given_.dtype
    assert (seen == 1).all()
    return values.astype(kind), holds


def random_image(rng, dtype, bands, rows, cols):
    if np.dtype(dtype).kind == "f":
        return (rng.normal(size=(bands, rows, cols)) * 10.0 ** rng.integers(-30, 30, (bands, rows, cols))).astype(dtype)
    limits = np.iinfo(dtype)
    image = rng.integers(limits.min, limits.max, (bands, rows, cols), dtype, endpoint=True)
    image.flat[0], image.flat[-1] = limits.min, limits.max
    return image


@st.composite
def roads(draw):
    """A raster and a way to map it."""
    window = draw(st.sampled_from([0, 1, 2, 7, 16, 33, 64, 101]))
    overlap = draw(st.integers(0, max(window - 1, 0))) if window else draw(st.sampled_from([0, 1, 8, 15, 40]))
    return {
        "dtype": draw(st.sampled_from(DTYPES)), "bands": draw(st.integers(1, 3)), "seed": draw(st.integers(0, 999)),
        "cols": draw(st.integers(1, 40) | st.sampled_from([1, 97, 127, 200])) if 0 < window < 7 else draw(st.integers(1, 110) | st.sampled_from([127, 211, 300])),
        "rows": draw(st.integers(1, 40)) if 0 < window < 7 else draw(st.integers(1, 110) | st.sampled_from([1, 131, 200])),
        "nodata": draw(st.sampled_from(["none", "dots", "half", "all", "but one"])), "policy": draw(st.sampled_from(["any", "all"])),
        "margin": draw(st.integers(0, overlap // 2)),
        "config": {
            "window": window, "overlap": overlap, "batch_size": draw(st.sampled_from([1, 3, 16])),
            "blending": draw(st.sampled_from(["blend", "crop"])), "flips": draw(st.booleans()),
        },
    }  # fmt: skip


@settings(max_examples=120, derandomize=True, deadline=None)
@given(road=roads())
def test_an_identity_network_returns_the_image_bit_for_bit_through_files(road):
    rng = np.random.default_rng(road["seed"])
    dtype, rows, cols = np.dtype(road["dtype"]), road["rows"], road["cols"]
    image = random_image(rng, dtype, road["bands"], rows, cols)
    valid = {
        "none": np.ones(image.shape, bool), "dots": rng.random(image.shape) > 0.2, "all": np.zeros(image.shape, bool),
        "half": np.broadcast_to(np.arange(cols) < cols // 2, image.shape), "but one": np.arange(image.size).reshape(image.shape) == image.size // 2,
    }[road["nodata"]]  # fmt: skip
    nodata = None
    if road["nodata"] != "none":
        nodata = image.dtype.type(np.nan if dtype.kind == "f" and road["seed"] % 2 else 77)
        image[image == nodata] = 78
        image = np.where(valid, image, nodata).astype(dtype)
    wanted = valid.all(0) if road["policy"] == "any" else valid.any(0)
    loaded = model("identity", road["bands"], "float64" if road["dtype"] in DOUBLE else "float32", margin=road["margin"])
    with tempfile.TemporaryDirectory() as where:
        path, copy = f"{where}/in.tif", f"{where}/out.tif"
        helpers.tif(path, image, nodata)
        with Stack(path) as source, Writer(copy, source.grid, road["bands"], dtype, nodata) as writer:
            assert source.dtype == dtype
            for window, values, holds in infer.predict(source, loaded, InferConfig(nodata=road["policy"], **road["config"])):
                assert np.array_equal(holds, wanted[window.slices])
                fill = 0 if nodata is None else nodata
                writer.write(window, np.where(valid[(slice(None), *window.slices)] & holds, values, fill).astype(dtype))
        dataset = gdal.Open(copy)
        back = dataset.ReadAsArray().reshape(image.shape)
        expected = image if road["policy"] == "all" or nodata is None else np.where(wanted, image, nodata).astype(dtype)
        if dtype == np.int8 and back.dtype == np.uint8:
            back = back.view(np.int8)
        assert back.tobytes() == expected.tobytes()


@settings(max_examples=15, derandomize=True, deadline=None)
@given(road=roads(), constant=st.sampled_from([0.1, 1 / 3, 12345.678, -1e-20, 3e38]))
def test_a_constant_field_stays_exactly_constant(road, constant):
    loaded = model("identity", 1, margin=road["margin"])
    source = Memory(np.full((1, road["rows"], road["cols"]), constant, np.float32))
    values, holds = put_together(source, loaded, InferConfig(**road["config"]))
    assert holds.all() and (values == np.float32(constant)).all()


class Memory:
    """An image in memory as a source; says when it is read."""

    def __init__(self, image, valid=None, wait=0.0):
        self.image, self.valid, self.wait, self.reads = image, valid, wait, []
        self.grid = infer_grid(image.shape[2], image.shape[1])

    def read(self, window):
        time.sleep(self.wait)
        self.reads.append(window)
        cut = self.image[(slice(None), *window.slices)]
        return cut, np.ones(cut.shape, bool) if self.valid is None else self.valid[(slice(None), *window.slices)]


def infer_grid(width, height):
    from water_dl_plugin.engine.raster import Grid

    return Grid(width, height)


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("blending", ["blend", "crop"])
def test_batches_and_swaths_change_nothing(monkeypatch, blending, flips):
    rng = np.random.default_rng(3)
    source = Memory(rng.normal(size=(2, 90, 600)).astype(np.float32), rng.random((2, 90, 600)) > 0.3)
    loaded = model("mean", 2, margin=1)
    results = []
    for strip, batch in ((None, 1), (None, 5), (1, 4), (30_000, 16)):
        if strip:
            monkeypatch.setattr(infer, "STRIP_BYTES", strip)
        results.append(put_together(source, loaded, InferConfig(window=32, overlap=9, batch_size=batch, blending=blending, flips=flips)))
    assert len(infer._swaths(600, 32, 1)) > 1
    for values, holds in results[1:]:
        assert values.tobytes() == results[0][0].tobytes() and np.array_equal(holds, results[0][1])


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("shape", [(100, 150), (33, 64), (64, 64), (200, 47)])
@pytest.mark.parametrize(
    "config", [{"overlap": 2}, {"overlap": 9}, {"overlap": 2, "blending": "crop"}, {"overlap": 31, "blending": "crop", "flips": True}]
)
def test_windows_of_a_3x3_network_give_what_it_gives_on_the_whole_image(config, shape, bands):
    image = np.random.default_rng(5).random((bands, *shape)).astype(np.float32)
    got, holds = put_together(Memory(image), model("mean", bands, margin=1), InferConfig(window=64, **config))
    mirrored = np.pad(image.astype(np.float64), [(0, 0), (1, 1), (1, 1)], mode="reflect")
    whole = sum(mirrored[:, r : r + shape[0], c : c + shape[1]] for r in range(3) for c in range(3)).mean(0) / 9
    assert holds.all() and np.allclose(got[0], whole, atol=1e-6, rtol=0)


def test_without_regard_to_the_margin_seams_would_show():
    """The test above can fail: the same network, said to have no margin and given no overlap, leaves zeros' traces at the seams."""
    image = np.ones((1, 128, 128), np.float32)
    got, _ = put_together(Memory(image), model("mean", 1), InferConfig(window=32, overlap=0))
    assert got.min() < 0.7
    got, _ = put_together(Memory(image), model("mean", 1, margin=1), InferConfig(window=32, overlap=2))
    assert np.allclose(got, 1, atol=1e-6)


def test_a_network_with_a_memory_of_place_is_blended_without_a_seam():
    """A window that adds its own offset: neighbouring pixels of the result differ by less than the offsets do over the overlap."""

    class Drifting:
        channels, dtype, tile = 1, np.dtype(np.float32), None
        info = model("identity", 1).info

        def __call__(self, batch):
            self.number = getattr(self, "number", 0)
            out = batch.copy()
            for window in out:
                window += self.number % 2
                self.number += 1
            return out

    got, _ = put_together(Memory(np.zeros((1, 64, 300), np.float32)), Drifting(), InferConfig(window=64, overlap=32, batch_size=1))
    assert got.max() > 0.9 and got.min() < 0.1
    assert np.abs(np.diff(got[0], axis=1)).max() < 0.05


def test_nodata_never_reaches_the_network_and_empty_windows_are_not_run():
    calls = []

    class Watching:
        channels, dtype, tile = 1, np.dtype(np.float32), None
        info = model("identity", 1).info

        def __call__(self, batch):
            calls.append(len(batch))
            assert np.isfinite(batch).all() and np.abs(batch).max() < 10
            return batch

    image = np.random.default_rng(0).random((1, 128, 256)).astype(np.float32)
    valid = np.zeros(image.shape, bool)
    valid[0, :20, :20] = True
    image[~valid] = np.nan
    image[0, 0, -1] = -3.4e38
    values, holds = put_together(Memory(image, valid), Watching(), InferConfig(window=32, overlap=0))
    assert sum(calls) == 1 and np.array_equal(holds, valid[0])
    assert np.array_equal(values[0][holds], image[0][holds])


def test_the_area_of_interest_limits_what_holds():
    image = np.random.default_rng(0).random((1, 100, 100)).astype(np.float32)
    area = np.zeros((100, 100), bool)
    area[10:50, 20:70] = True
    values, holds = put_together(Memory(image), model("identity", 1), InferConfig(window=32, overlap=8), area=lambda w: area[w.slices])
    assert np.array_equal(holds, area) and np.array_equal(values[0][area], image[0][area])


@pytest.mark.parametrize("failing", ["cancel", "model"])
def test_when_it_stops_nobody_reads_the_source_any_more(failing):
    """The caller closes its files next: a read in another thread would then crash QGIS."""
    source = Memory(np.zeros((1, 64, 2000), np.float32), wait=0.02)

    class Failing:
        channels, dtype, tile = 1, np.dtype(np.float32), None
        info = model("identity", 1).info

        def __call__(self, batch):
            if failing == "model":
                raise ModelError("failed")
            return batch

    def progress(fraction, message=""):
        if fraction > 0:
            raise Cancelled()

    try:
        for _ in infer.predict(source, Failing(), InferConfig(window=16, overlap=0, batch_size=8), progress):
            pass
    except (Cancelled, ModelError) as error:  # while it is alive it keeps all frames, and so the generators, alive
        before = len(source.reads)
        time.sleep(0.2)
        assert error.__traceback__ and len(source.reads) == before < 40
        assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]
    else:
        pytest.fail("it did not stop")


def test_progress_moves_within_one_row_of_windows():
    seen = []
    put_together(
        Memory(np.zeros((1, 16, 1600), np.float32)),
        model("identity", 1),
        InferConfig(window=32, overlap=0, batch_size=2),
        progress=lambda f, m="": seen.append(f),
    )
    assert np.allclose(seen, [*np.linspace(0.04, 1, 25), 1])


def test_progress_rises_to_one(monkeypatch):
    monkeypatch.setattr(infer, "STRIP_BYTES", 1)
    seen = []
    put_together(
        Memory(np.zeros((1, 100, 400), np.float32)),
        model("identity", 1),
        InferConfig(window=32, overlap=8),
        progress=lambda f, m="": seen.append(f),
    )
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] == pytest.approx(1)
    assert len(seen) > 20 and max(np.diff(seen)) < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 4)])
def test_reflection_works_on_the_smallest_rasters(shape):
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    out = infer.reflect(image, ((10, 7), (5, 12)))
    assert out.shape == (1, shape[0] + 17, shape[1] + 17)
    assert np.array_equal(out[:, 10 : 10 + shape[0], 5 : 5 + shape[1]], image)
    if min(shape) > 1:
        assert np.array_equal(out, np.pad(image, ((0, 0), (10, 7), (5, 12)), mode="reflect"))


class TestWindowSize:
    @pytest.mark.parametrize("multiple", [1, 8, 32])
    @pytest.mark.parametrize("window", [0, 1, 40, 250])
    @pytest.mark.parametrize("width", [1, 100, 5000])
    def test_is_what_the_network_can_take_and_larger_than_the_overlap(self, multiple, window, width):
        loaded = model("identity", 1, multiple=multiple, chip_size=64)
        size = infer.window_size(loaded, InferConfig(window=window, overlap=16), infer_grid(width, 10))
        assert size % multiple == 0 and size >= max(window, 1)
        if not window:
            assert size > 16 and size <= 256 + 32

    def test_an_overlap_of_the_whole_window_is_refused(self):
        for config in (InferConfig(window=64, overlap=64), InferConfig(window=10)):
            with pytest.raises(ConfigError, match="overlap"):
                next(infer.predict(Memory(np.zeros((1, 9, 9), np.float32)), model("identity", 1), config))

    def test_a_margin_beyond_the_overlap_is_refused(self):
        for blending in ("blend", "crop"):
            with pytest.raises(ConfigError, match="at least 20"):
                next(
                    infer.predict(
                        Memory(np.zeros((1, 9, 9), np.float32)), model("identity", 1, margin=10), InferConfig(overlap=19, blending=blending)
                    )
                )


class TestUnusualModels:
    image = np.random.default_rng(8).random((2, 75, 90)).astype(np.float32)

    def apply(self, path, **config):
        loaded = OnnxModel(path, "cpu", 1)
        return loaded, put_together(Memory(self.image), loaded, InferConfig(**config))

    @pytest.mark.parametrize("batch", [1, 3])
    def test_a_fixed_batch_and_a_fixed_tile(self, tmp_path, batch):
        loaded, (values, _) = self.apply(helpers.identity(tmp_path / "m.onnx", 2, shape=(batch, None, 32, 32)), overlap=8, batch_size=4)
        assert (loaded.batch, loaded.tile, loaded.info.chip_size) == (batch, 32, 32)
        assert values.tobytes() == self.image.tobytes()
        with pytest.raises(ModelError, match="32 px only"):
            self.apply(loaded.path, window=64, overlap=8)
        with pytest.raises(ConfigError, match="overlap"):
            self.apply(loaded.path, overlap=32)

    def test_half_precision(self, tmp_path):
        loaded, (values, _) = self.apply(helpers.identity(tmp_path / "m.onnx", 2, np.float16), overlap=8)
        assert loaded.dtype == np.float16 and values.dtype == np.float32
        assert np.array_equal(values, self.image.astype(np.float16).astype(np.float32))

    def test_a_model_whose_output_has_another_size_is_refused(self, tmp_path):
        path = helpers.onnx_file(
            tmp_path / "m.onnx",
            [helper.make_node("MaxPool", ["image"], ["out"], kernel_shape=[2, 2], strides=[2, 2])],
            2,
            2,
            out_shape=["n", 2, "a", "b"],
        )
        with pytest.raises(ModelError, match="size of their input"):
            self.apply(path, window=32, overlap=8)

    def test_a_model_that_drops_windows_is_refused(self, tmp_path):
        path = helpers.onnx_file(tmp_path / "m.onnx", [helper.make_node("ReduceMean", ["image"], ["out"], axes=[0], keepdims=1)], 2, 2)
        with pytest.raises(ModelError, match="size of their input"):
            self.apply(path, window=32, overlap=8, batch_size=4)

    def test_a_model_that_fails_says_so(self, tmp_path):
        path = helpers.onnx_file(
            tmp_path / "m.onnx", [helper.make_node("Add", ["image", "k"], ["out"])], 2, 2, constants={"k": np.zeros((1, 2, 7, 7), np.float32)}
        )  # fmt: skip
        with pytest.raises(ModelError, match="failed on a window of 32 x 32"):
            self.apply(path, window=32, overlap=8)

    def test_channels_that_the_file_does_not_tell_are_found_out(self, tmp_path):
        loaded, (values, _) = self.apply(helpers.identity(tmp_path / "m.onnx", 2, out_shape=["n", "c", "h", "w"]), overlap=8)
        assert loaded.channels == 2 and np.array_equal(values, self.image)


def test_the_first_example_of_the_road_in_plain_numbers(folder):
    """No loops of ours: a file, a model that doubles, and ONNX Runtime itself on the whole image."""
    image = np.arange(2 * 40 * 50, dtype=np.uint16).reshape(2, 40, 50)
    path = helpers.tif(folder / "a.tif", image)
    twice = helpers.onnx_file(folder / "twice.onnx", [helper.make_node("Add", ["image", "image"], ["out"])], 2, 2)
    whole = onnxruntime.InferenceSession(twice).run(None, {"image": image[None].astype(np.float32)})[0][0]
    with Stack(path) as source:
        values, holds = put_together(source, OnnxModel(twice, "cpu"), InferConfig(window=16, overlap=4))
    assert holds.all() and np.array_equal(values, whole) and whole[1, 39, 49] == 2 * 3999


def test_blocks_and_windows_agree_on_places(folder):
    path = helpers.tif(folder / "b.tif", np.arange(30 * 20, dtype=np.int32).reshape(1, 30, 20))
    with Stack(path) as source:
        for block in blocks(20, 30, 7):
            pixels, _ = source.read(block)
            assert pixels[0, 0, 0] == block.row * 20 + block.col
        assert source.read(Window(19, 29, 1, 1))[0][0, 0, 0] == 599
    assert Path(path).exists()
