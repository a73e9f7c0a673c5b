"""Model files: ours, those of Deepness, those that say nothing, and those that mean harm."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests import road
from water_dl_plugin.engine import bundle
from water_dl_plugin.engine.backends import OnnxModel
from water_dl_plugin.engine.bundle import ModelInfo
from water_dl_plugin.engine.classes import MapClass
from water_dl_plugin.engine.errors import ConfigError, ModelError, OutputError
from water_dl_plugin.engine.normalise import Normalisation, Sketch, fit
from water_dl_plugin.engine.settings import SCHEMES

RNG = np.random.default_rng(0)
CLASSES = (MapClass(0, "land", (1, 2, 3)), MapClass(1, "water", (4, 5, 6)))


def load(path, **more):
    return OnnxModel(str(path), "cpu", 1, **more)


def graph_of(path) -> bytes:
    return Path(path).read_bytes()


def an_info(scheme="percentile", bands=2, **more) -> ModelInfo:
    sketches = []
    for i in range(bands):
        sketches.append(Sketch())
        sketches[-1].update(RNG.lognormal(7 - i, 0.5, 5000))
    return ModelInfo("segmentation", tuple((f"B{i}", "m") for i in range(bands)), fit(scheme, sketches), CLASSES, "unet", {"encoder": "resnet18"}, 10.0, 128, 3, 8, "all", 0.4, {"epochs": 5}, "CC0", "# Card", **more)  # fmt: skip


class TestOurOwn:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_all_that_is_said_comes_back(self, tmp_path, scheme):
        info = an_info(scheme)
        bundle.save(str(tmp_path / "m.onnx"), graph_of(road.identity(tmp_path / "g.onnx", 2)), info)
        loaded = load(tmp_path / "m.onnx")
        assert loaded.info == info and loaded.channels == 2 and loaded.tile is None and loaded.provider == "CPUExecutionProvider"
        assert sorted(os.listdir(tmp_path)) == ["g.onnx", "m.onnx"]

    def test_a_failed_check_leaves_the_older_file(self, tmp_path):
        path = tmp_path / "m.onnx"
        path.write_text("old")

        def check(partial):
            assert os.path.exists(partial)
            raise ModelError("differs")

        with pytest.raises(ModelError, match="differs"):
            bundle.save(str(path), graph_of(road.identity(tmp_path / "g.onnx", 2)), an_info(), check)
        assert path.read_text() == "old" and sorted(os.listdir(tmp_path)) == ["g.onnx", "m.onnx"]
        with pytest.raises(OutputError):
            bundle.save(str(tmp_path / "missing" / "m.onnx"), graph_of(tmp_path / "g.onnx"), an_info())

    def test_a_hash_and_the_weights_beside(self, tmp_path):
        (tmp_path / "a").write_bytes(b"abc")
        assert bundle.file_hash(str(tmp_path / "a")) == "ba7816bf8f01cfea"
        assert (
            bundle.weights_beside("x/NAME.onnx") == "x/NAME.safetensors" and bundle.finite(float("nan")) is None and bundle.finite(2) == 2.0
        )


class TestDeepnessKeys:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_they_decode_to_the_same_pixels(self, scheme):
        """Deepness computes (x / 255 - mean) / std; with a graph that normalises by itself, raw pixels have to come out."""
        info = an_info(scheme)
        linear = info.normalisation.linear
        norm = Normalisation(scheme, info.normalisation.bands, in_graph=not linear)
        keys = {
            k: json.loads(v)
            for k, v in bundle.metadata(ModelInfo("segmentation", info.bands, norm, CLASSES, pixel_size_m=10.0, chip_size=128)).items()
        }
        x = np.stack([RNG.lognormal(7 - i, 0.5, (20, 20)) for i in range(2)]).astype(np.float32)
        mean, std = (np.array(keys[f"standardization_{k}"])[:, None, None] for k in ("mean", "std"))
        theirs = (x / 255.0 - mean) / std
        ours = norm.apply(x, np.ones(x.shape, bool)) if linear else x
        assert np.abs(theirs - ours).max() <= 1e-5 * max(1, np.abs(ours).max())
        assert keys["model_type"] == "Segmentor" and keys["class_names"] == {"0": "land", "1": "water"} and keys["resolution"] == 1000
        assert keys["tile_size"] == keys["tiles_size"] == 128 and keys["seg_thresh"] == 0.5

    def test_none_are_promised_for_other_tasks(self):
        assert list(bundle.metadata(ModelInfo("regression", (("a", ""),), Normalisation.identity(1)))) == ["waterdl"]

    def test_a_file_with_nothing_but_these_keys(self, tmp_path):
        props = {
            "model_type": '"Segmentor"', "class_names": {"0": "background", "1": "water", "2": "ice"}, "resolution": 250, "tile_size": 96, "tiles_overlap": 15,
            "standardization_mean": [0.1, 0.2, 0.3], "standardization_std": [0.5, 0.25, 2], "seg_thresh": 0.3, "seg_small_segment": 11,
        }  # fmt: skip
        loaded = load(road.identity(tmp_path / "m.onnx", 3, props=props))
        info = loaded.info
        assert (info.source, info.chip_size, info.threshold, info.pixel_size_m) == ("deepness", 96, 0.3, 2.5)
        assert [(c.value, c.name) for c in info.classes] == [(0, "background"), (1, "water"), (2, "ice")]
        x = RNG.integers(0, 255, (3, 4, 5), np.uint8)
        expected = (x / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.5, 0.25, 2])[:, None, None]
        assert np.allclose(info.normalisation.apply(x, np.ones(x.shape, bool)), expected, atol=1e-5)

    def test_class_names_as_a_list_and_tiles_size(self, tmp_path):
        info = load(
            road.mean3(
                tmp_path / "m.onnx", 1, props={"class_names": [{"0": "no", "1": "yes"}], "tiles_size": 64, "model_type": '"Segmentor"'}
            )
        ).info
        assert [c.name for c in info.classes] == ["no", "yes"] and info.chip_size == 64
        x = np.array([[[0, 51, 255]]], np.uint8)
        assert np.allclose(info.normalisation.apply(x, np.ones(x.shape, bool)), x / 255)  # Deepness divides by 255

    @pytest.mark.parametrize("divide_by", [1.0, 255.0, 10000.0])
    def test_no_keys_at_all(self, tmp_path, divide_by):
        info = load(road.identity(tmp_path / "m.onnx", 2), divide_by=divide_by).info
        x = RNG.integers(0, 60000, (2, 3, 3)).astype(np.uint16)
        assert info.source == "none" and np.allclose(info.normalisation.apply(x, np.ones(x.shape, bool)), x / divide_by, rtol=1e-6)
        assert [c.name for c in info.classes] == ["class 0", "class 1"] and info.threshold == 0.5

    @pytest.mark.parametrize("props", [
        {"model_type": '"Detector"'}, {"model_type": "not json {"}, {"standardization_mean": [0.1], "standardization_std": [1]}, {"standardization_mean": 3, "standardization_std": 4},
        {"standardization_mean": [0, 0], "standardization_std": [0, 1]}, {"standardization_mean": ["a", 0], "standardization_std": [1, 1]},
        {"standardization_mean": [10**400, 0], "standardization_std": [1, 1]}, {"standardization_mean": [None, 0], "standardization_std": [1, 1]},
        {"class_names": '"water"'}, {"class_names": ["a", "b"]}, {"class_names": 7}, {"class_names": {"0": "\ud800"}}, {"resolution": '"10"'}, {"resolution": -1}, {"resolution": [1]},
        {"resolution": 1e300}, {"tile_size": 0}, {"tile_size": 2.5}, {"tile_size": 10**9}, {"tile_size": '"64"'}, {"seg_thresh": 2}, {"seg_thresh": '"a"'}, {"seg_thresh": "NaN"},
        {"class_names": "[" * 100_000}, {"seg_thresh": "9" * 100_000}, {"model_type": [[]]},
    ])  # fmt: skip
    def test_malformed_keys(self, tmp_path, props):
        with pytest.raises(ModelError) as error:
            load(road.identity(tmp_path / "m.onnx", 2, props=props))
        assert error.value.remedy and len(error.value.message) < 600


class TestActivation:
    x = np.linspace(-100, 100, 2 * 6 * 7, dtype=np.float32).reshape(1, 2, 6, 7)

    def test_sigmoid_and_softmax(self, tmp_path):
        path = road.identity(tmp_path / "m.onnx", 2)
        assert np.allclose(load(path, activation="sigmoid")(self.x), 1 / (1 + np.exp(-self.x.astype(np.float64))), atol=1e-6)
        power = np.exp(self.x.astype(np.float64) - self.x.max(1, keepdims=True))
        assert np.allclose(load(path, activation="softmax")(self.x), power / power.sum(1, keepdims=True), atol=1e-6)
        assert np.array_equal(load(path)(self.x), self.x)

    def test_softmax_over_one_channel_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="sigmoid"):
            load(road.identity(tmp_path / "m.onnx", 1), activation="softmax")

    def test_whole_numbers_come_as_floats(self, tmp_path):
        """A model that gives classes already."""
        node = [helper.make_node("Cast", ["image"], ["out"], to=onnx.TensorProto.INT64)]
        graph = helper.make_graph(
            node,
            "g",
            [helper.make_tensor_value_info("image", 1, ["n", 1, "h", "w"])],
            [helper.make_tensor_value_info("out", 7, ["n", 1, "h", "w"])],
        )
        (tmp_path / "m.onnx").write_bytes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
        )
        out = load(tmp_path / "m.onnx")(np.full((1, 1, 2, 2), 3.7, np.float32))
        assert out.dtype == np.float32 and (out == 3).all()

    def test_cuda_is_not_taken_for_granted(self, tmp_path):
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")
        path = road.identity(tmp_path / "m.onnx", 1)
        with pytest.raises(ConfigError, match="CUDA"):
            OnnxModel(path, "cuda")
        assert OnnxModel(path, "auto").provider == "CPUExecutionProvider"


class TestNotAModel:
    def test_missing_empty_text_zip_folder(self, tmp_path):
        for name, content in {
            "empty": b"",
            "text": b"hello\n" * 100,
            "zip": b"PK\x03\x04" + bytes(200),
            "tif": b"II*\0" + bytes(99),
            "zeros": bytes(5000),
        }.items():
            (tmp_path / name).write_bytes(content)
        for name in ("missing", "empty", "text", "zip", "tif", "zeros", ".", "a\0b", ""):
            with pytest.raises(ModelError) as error:
                load(tmp_path / name if name else "")
            assert error.value.remedy

    def test_cut_at_any_length(self, tmp_path):
        whole = graph_of(road.mean3(tmp_path / "m.onnx", 2, props={"waterdl": road.waterdl(2)}))
        assert load(tmp_path / "m.onnx").info.source == "waterdl"
        short = tmp_path / "short.onnx"
        read = 0
        for length in range(0, len(whole), 7):
            short.write_bytes(whole[:length])
            with contextlib.suppress(ModelError):
                read += load(short).info is not None  # a protobuf may end early and still be one; what it says is then checked
        assert read < 5

    @settings(max_examples=150, derandomize=True, deadline=None)
    @given(place=st.integers(0, 10**6), value=st.integers(0, 255), count=st.integers(1, 9))
    def test_damaged_bytes(self, tmp_path_factory, place, value, count):
        path = tmp_path_factory.getbasetemp() / "damaged.onnx"
        content = bytearray(graph_of(road.mean3(path, 2, props={"waterdl": road.waterdl(2)})))
        for k in range(count):
            content[(place * (k + 1)) % len(content)] = (value * (k + 1)) % 256
        path.write_bytes(content)
        with contextlib.suppress(ModelError, ConfigError):
            loaded = load(path)
            loaded(np.zeros((1, len(loaded.info.bands), 16, 16), np.float32))

    @pytest.mark.parametrize(("shape", "out_shape"), [
        (["n", 2], ["n", 2]), (["n", "c", "h", "w"], None), (["n", 2, 32, 64], None), (["n", 2, 32, "w"], None), (["n", 2, "h", "w"], ["n", 2]),
        (["n", 5000, "h", "w"], None), (["n", 2, 100_000, 100_000], None), ([10**6, 2, 512, 512], None),
    ])  # fmt: skip
    def test_not_an_image_to_an_image(self, tmp_path, shape, out_shape):
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            [helper.make_node("Identity", ["image"], ["out"])], "g", [helper.make_tensor_value_info("image", kind, shape)],
            [helper.make_tensor_value_info("out", kind, out_shape or shape)],
        )  # fmt: skip
        (tmp_path / "m.onnx").write_bytes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
        )
        with pytest.raises(ModelError):
            load(tmp_path / "m.onnx")

    def test_two_inputs_and_whole_numbers(self, tmp_path):
        for kinds in ([1, 1], [7]):
            inputs = [helper.make_tensor_value_info(f"i{k}", kind, ["n", 2, "h", "w"]) for k, kind in enumerate(kinds)]
            graph = helper.make_graph(
                [helper.make_node("Sum" if len(kinds) > 1 else "Identity", [i.name for i in inputs], ["out"])],
                "g",
                inputs,
                [helper.make_tensor_value_info("out", kinds[0], ["n", 2, "h", "w"])],
            )
            (tmp_path / "m.onnx").write_bytes(
                helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
            )
            with pytest.raises(ModelError, match="one image"):
                load(tmp_path / "m.onnx")

    @pytest.mark.parametrize("place", ["../secret.bin", "/etc/passwd", "sub/../../secret.bin"])
    def test_weights_from_elsewhere_are_not_read(self, tmp_path, place):
        """ONNX may keep weights in other files; a stranger's model must not name files outside of its folder."""
        (tmp_path / "secret.bin").write_bytes(np.arange(1024, dtype=np.float32).tobytes())
        (tmp_path / "models" / "sub").mkdir(parents=True)
        path = tmp_path / "models" / "m.onnx"
        tensor = onnx.TensorProto(name="k", data_type=1, dims=[1, 2, 1, 1], data_location=onnx.TensorProto.EXTERNAL)
        for key, value in (("location", place), ("offset", "0"), ("length", "8")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        info = [helper.make_tensor_value_info(n, 1, ["n", 2, "h", "w"]) for n in ("image", "out")]
        graph = helper.make_graph([helper.make_node("Add", ["image", "k"], ["out"])], "g", info[:1], info[1:], [tensor])
        path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
        with pytest.raises(ModelError):
            load(path)

    def test_metadata_that_are_no_text(self, tmp_path):
        content = graph_of(road.identity(tmp_path / "m.onnx", 2, props={"waterdl": "AAAAAAAA"}))
        (tmp_path / "m.onnx").write_bytes(content.replace(b"AAAAAAAA", b"\xff\xfe\xff\x80AAAA"))
        with pytest.raises(ModelError):
            load(tmp_path / "m.onnx")

    def test_names_that_are_no_text(self, tmp_path):
        content = graph_of(road.identity(tmp_path / "m.onnx", 2))
        (tmp_path / "m.onnx").write_bytes(content.replace(b"image", b"\xff\xfe\xff\x80a"))
        with pytest.raises(ModelError, match="no text"):
            load(tmp_path / "m.onnx")


WRONG = [
    None, True, False, -1, 0, 1.5, 10**400, -(10**400), 1e308, "", "x", "x" * 300_000, [], [[]], {}, {"a": 1}, [None] * 5000, "\ud800", "a\0b", [1, 2, 3], 300, "NaN", "Infinity",
]  # fmt: skip


def places(node, path=()):
    """Every place in a JSON tree."""
    yield path
    for key, item in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(item, (*path, key))


def changed(tree, path, value):
    tree = copy.deepcopy(tree)
    node = tree
    for key in path[:-1]:
        node = node[key]
    if not path:
        return value
    if value is Ellipsis:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return tree


class TestHostileMetadata:
    def describe(self, text):
        """`ModelInfo`, or None for a `ModelError`; anything else fails the test. What is accepted must be writable again."""
        try:
            info = bundle.describe({"waterdl": text}, 2, 1, None)
        except ModelError as error:
            assert error.remedy and len(error.message) < 1000
            return None
        assert bundle.describe(bundle.metadata(info), 2, 1, None) == info
        assert (
            isinstance(info.chip_size, int)
            and 0 <= info.threshold <= 1
            and len(info.classes) == 2
            and all(isinstance(c.name, str) for c in info.classes)
        )
        json.dumps(info.to_json(), allow_nan=False).encode("utf-8")
        return info

    @pytest.mark.parametrize("scheme", ["none", "percentile", "equalize", "dynamic_world"])
    def test_any_wrong_value_in_any_place(self, scheme):
        good = json.loads(json.dumps({**road.waterdl(2), "normalisation": {**an_info(scheme).normalisation.to_json()}}))
        if scheme == "equalize":
            for band in good["normalisation"]["bands"]:
                band["knots"] = [0.0, 1.0, 5.0]
        assert self.describe(json.dumps(good)) is not None
        started = time.monotonic()
        refused = 0
        for path in places(good):
            for value in [*WRONG, Ellipsis]:
                if path or value is not Ellipsis:
                    refused += self.describe(json.dumps(changed(good, path, value))) is None
        assert refused > 700 and time.monotonic() - started < 60

    @pytest.mark.parametrize("change", [
        {"bands": []}, {"bands": [{"name": "a"}]}, {"bands": [{"name": "a"}] * 3}, {"classes": []}, {"classes": [{"value": 0, "name": "a", "colour": [0, 0, 0]}]},
        {"classes": [{"value": 1, "name": "a", "colour": [0, 0, 0]}, {"value": 1, "name": "b", "colour": [0, 0, 0]}]},
        {"classes": [{"value": 0, "name": "a", "colour": [0, 0, 300]}, {"value": 1, "name": "b", "colour": [0, 0, 0]}]},
        {"classes": [{"value": 255, "name": "a", "colour": [0, 0, 0]}, {"value": 1, "name": "b", "colour": [0, 0, 0]}]},
        {"classes": [{"value": 0, "name": "a", "colour": [0, 0]}, {"value": 1, "name": "b", "colour": [0, 0, 0]}]},
        {"classes": [{"value": 0, "name": "\ud800", "colour": [0, 0, 0]}, {"value": 1, "name": "b", "colour": [0, 0, 0]}]},
        {"schema": 2}, {"schema": "1"}, {"schema": None}, {"threshold": 1.01}, {"threshold": True}, {"chip_size": 10**9}, {"chip_size": 64.5}, {"margin": -1}, {"multiple": 0},
        {"nodata": "some"}, {"nodata": ["any"]}, {"pixel_size_m": 0}, {"pixel_size_m": 1e300}, {"card": "x" * 300_000}, {"licence": 5}, {"task": None}, {"training": [1]},
        {"architecture": "unet"}, {"architecture": {"name": "unet", "arguments": [1]}}, {"architecture": {"name": 3}},
    ])  # fmt: skip
    def test_each_of_these_is_refused(self, change):
        assert self.describe(json.dumps({**road.waterdl(2), **change})) is None

    @pytest.mark.parametrize("text", [
        "", "{", "null", "[]", "3", '"x"', "NaN", '{"schema": NaN}', '{"schema": 1e999}', "[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900, "\0", "{}" * 3,
        '{"schema": ' + "9" * 4000 + "}", '{"schema": 1, "threshold": ' + "9" * 100_000 + "}", " " * 6_000_000,
    ])  # fmt: skip
    def test_text_that_is_not_even_an_object(self, text):
        assert self.describe(text) is None

    @pytest.mark.parametrize("key", ["training", "arguments"])
    def test_summaries_may_not_be_deep(self, key):
        for depth, fine in ((5, True), (30, False), (400, False)):
            deep = '{"a":' * depth + "1" + "}" * depth
            text = json.dumps(road.waterdl(2))
            text = (
                text.replace('"training": {"epochs": 3, "figures": {"miou": 0.5}}', f'"training": {deep}')
                if key == "training"
                else text.replace('{"encoder": "resnet18"}', deep)
            )
            assert deep in text and (self.describe(text) is not None) == fine

    def test_through_a_file(self, tmp_path):
        for number, change in enumerate(({"threshold": 10**400}, {"bands": [{"name": "a"}]}, {"training": "x" * 1_000_000})):
            with pytest.raises(ModelError):
                load(road.mean3(tmp_path / f"{number}.onnx", 2, props={"waterdl": {**road.waterdl(2), **change}}))
        with pytest.raises(ModelError, match="not valid JSON"):
            load(road.mean3(tmp_path / "m.onnx", 2, props={"waterdl": "[" * 100_000}))
        with pytest.raises(ModelError, match="3 classes"):
            load(road.mean3(tmp_path / "m.onnx", 2, props={"waterdl": road.waterdl(2, ("a", "b", "c"))}))
        with pytest.raises(ModelError, match="takes 2"):
            load(road.mean3(tmp_path / "m.onnx", 2, props={"waterdl": road.waterdl(3)}))

    def test_more_classes_than_a_class_raster_holds(self, tmp_path):
        with pytest.raises(ModelError, match="300 classes"):
            load(road.identity(tmp_path / "m.onnx", 300))
