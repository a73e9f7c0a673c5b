"""The networks: one class of tests over every registered architecture, and the ResNet encoders against torchvision's names."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import torch as safetensors_torch

from water_dl_plugin.engine import nets
from water_dl_plugin.engine.errors import ConfigError, ModelError
from water_dl_plugin.engine.nets import resnet

ROOT = Path(__file__).resolve().parents[2]
BANDS, CHANNELS = 7, 3
SEGMENTING = tuple(n for n in nets.names() if not nets.takes(n, "elevations") and nets.usual(n, "gives") == "image")  # others: own tests


def warmed(name, bands=BANDS, channels=CHANNELS, **arguments):
    """A network in eval mode whose batch statistics are not those of a fresh one, so that they take part in what is compared."""
    torch.manual_seed(1)
    net = nets.build(name, bands, channels, **arguments).train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(2, bands, 64, 64) * 2 + 0.5)
    return net.eval()


@pytest.fixture(scope="module", params=SEGMENTING)
def warm(request):
    return warmed(request.param)


def image(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestEveryArchitecture:
    @pytest.mark.parametrize("size", [(1, 1), (7, 7), (33, 65), (64, 64)])
    def test_logits_have_the_size_of_the_image(self, warm, size):
        with torch.no_grad():
            logits = warm(image(2, BANDS, *size))
        assert logits.shape == (2, CHANNELS, *size)
        assert torch.isfinite(logits).all()
        assert logits.std() > 1e-3 or size == (1, 1)  # not a constant

    @pytest.mark.parametrize("bands", [1, 3, 7, 12])
    @pytest.mark.parametrize("name", SEGMENTING)
    def test_any_number_of_bands_each_of_which_matters(self, name, bands):
        torch.manual_seed(0)
        net = nets.build(name, bands, 1).eval()
        x = image(1, bands, 32, 32)
        with torch.no_grad():
            before = net(x)
            assert before.shape == (1, 1, 32, 32)
            for band in range(bands):
                changed = x.clone()
                changed[:, band] += 1
                assert (net(changed) - before).abs().max() > 1e-4, f"band {band} changes nothing"

    def test_declares_stride_and_margin(self, warm):
        assert isinstance(warm.stride, int) and warm.stride >= 1
        assert isinstance(warm.margin, int) and warm.margin >= 0

    def test_odd_sizes_are_padded_with_edge_pixels_at_bottom_and_right(self, warm):
        x = image(1, BANDS, 33, 50)
        below, right = -33 % warm.stride, -50 % warm.stride
        padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="edge"))
        with torch.no_grad():
            torch.testing.assert_close(warm(x), warm(padded)[:, :, :33, :50])

    def test_the_first_logits_are_small(self, warm):
        """Fresh weights must not be sure of anything: a start at probability 0.99 costs epochs."""
        torch.manual_seed(0)
        net = type(warm)(BANDS, 1).train()
        with torch.no_grad():
            assert net(image(4, BANDS, 64, 64)).abs().mean() < 2

    @pytest.mark.parametrize("name", SEGMENTING)
    def test_gradients_reach_every_parameter_and_repeat_bit_for_bit(self, name):
        def gradients():
            torch.manual_seed(3)
            net = nets.build(name, BANDS, CHANNELS).train()
            (net(image(2, BANDS, 64, 64)) * image(2, CHANNELS, 64, 64, seed=1)).sum().backward()
            return {key: parameter.grad for key, parameter in net.named_parameters()}

        first, second = gradients(), gradients()
        for key, gradient in first.items():
            # Not just above 0: a bias in front of a batch normalisation gets rounding errors, and learns nothing.
            assert gradient is not None and gradient.abs().max() > 0.01, f"no gradient reaches {key}"
            assert torch.equal(gradient, second[key]), f"the gradient of {key} differs from run to run"

    def test_onnx_export_equals_torch_at_other_sizes_and_batches(self, warm, tmp_path):
        path = str(tmp_path / "net.onnx")
        axes = {0: "batch", 2: "height", 3: "width"}
        with warnings.catch_warnings():
            # torch announces the other exporter; a TracerWarning (something was taken as a constant) stays an error.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("error", torch.jit.TracerWarning)
            torch.onnx.export(
                warm, (image(2, BANDS, 64, 96),), path, dynamo=False, opset_version=17,
                input_names=["image"], output_names=["logits"], dynamic_axes={"image": axes, "logits": axes},
            )  # fmt: skip
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for shape in [(2, 64, 96), (1, 1, 1), (3, 45, 70), (1, 128, 32)]:
            x = image(shape[0], BANDS, *shape[1:], seed=sum(shape))
            with torch.no_grad():
                expected = warm(x).numpy()
            (found,) = session.run(None, {"image": x.numpy()})
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)

    def test_saved_and_loaded_gives_identical_logits(self, warm, tmp_path):
        safetensors_torch.save_file(warm.state_dict(), tmp_path / "net.safetensors")
        torch.manual_seed(99)
        other = type(warm)(BANDS, CHANNELS).eval()
        x = image(1, BANDS, 40, 40)
        with torch.no_grad():
            assert not torch.equal(other(x), warm(x))
            other.load_state_dict(safetensors_torch.load_file(tmp_path / "net.safetensors"))
            assert torch.equal(other(x), warm(x))


class TestRegistry:
    def test_wrong_name_lists_the_right_ones(self):
        with pytest.raises(ConfigError, match="unet, linknet"):
            nets.build("nuet", 3, 1)

    def test_wrong_argument_lists_the_right_ones(self):
        with pytest.raises(ConfigError, match=r"no argument encodr.*Known are: encoder"):
            nets.build("unet", 3, 1, encodr="resnet18")

    @pytest.mark.parametrize("encoder", ["resnet19", 18, None, ["resnet18"]])
    def test_wrong_encoder_lists_the_right_ones(self, encoder):
        with pytest.raises(ConfigError, match="resnet18, resnet34, resnet50"):
            nets.build("linknet", 3, 1, encoder=encoder)

    @pytest.mark.parametrize("bands, channels", [(0, 1), (10**12, 1), (3, 0), (3, 10**12), (3.0, 1), ("3", 1), (True, 1)])
    def test_hostile_numbers_are_refused_before_memory_is_taken(self, bands, channels):
        with pytest.raises(ConfigError, match="whole number from 1 to"):
            nets.build("unet", bands, channels)

    def test_register_adds_one_that_builds_and_refuses_a_second(self, monkeypatch):
        monkeypatch.setattr(nets, "ARCHITECTURES", dict(nets.ARCHITECTURES))
        nets.register("pointwise", lambda bands, channels, bias=True: torch.nn.Conv2d(bands, channels, 1, bias=bias))
        assert nets.names()[-1] == "pointwise"
        assert nets.build("pointwise", 5, 2, bias=False).weight.shape == (2, 5, 1, 1)
        with pytest.raises(ConfigError, match="Known are: bias"):
            nets.build("pointwise", 5, 2, encoder="resnet18")
        with pytest.raises(ConfigError, match="registered already"):
            nets.register("pointwise", ".unet:UNet")

    def test_names_need_no_torch_and_building_says_what_is_missing(self):
        code = (
            "import sys; sys.modules['torch'] = None\n"
            "from water_dl_plugin.engine import errors, nets\n"
            "print(*nets.names(), *nets.ENCODERS)\n"
            "try: nets.build('unet', 3, 1)\n"
            "except errors.PackageMissingError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        names, missing = done.stdout.splitlines()
        assert names == "unet linknet demunet levelnet resnet18 resnet34 resnet50"
        assert "torch is not installed" in missing

    def test_encoders_offered_are_the_encoders_there_are(self):
        assert tuple(resnet.SPECIFICATIONS) == nets.ENCODERS


def torchvision_names(depths, convolutions, downsample_first):
    """The names of torchvision's ResNet state dict in order, written down from its naming rule, without the classifier."""

    def normalisation(prefix):
        return [f"{prefix}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    names = ["conv1.weight", *normalisation("bn1")]
    for layer, depth in enumerate(depths, 1):
        for block in range(depth):
            at = f"layer{layer}.{block}"
            for number in range(1, convolutions + 1):
                names += [f"{at}.conv{number}.weight", *normalisation(f"{at}.bn{number}")]
            if block == 0 and (layer > 1 or downsample_first):
                names += [f"{at}.downsample.0.weight", *normalisation(f"{at}.downsample.1")]
    return names


class TestResNet:
    @pytest.mark.parametrize(
        "name, parameters, keys, names",
        [
            ("resnet18", 11_176_512, 120, torchvision_names((2, 2, 2, 2), 2, False)),
            ("resnet34", 21_284_672, 216, torchvision_names((3, 4, 6, 3), 2, False)),
            ("resnet50", 23_508_032, 318, torchvision_names((3, 4, 6, 3), 3, True)),
        ],
    )
    def test_parameters_are_torchvisions(self, name, parameters, keys, names):
        encoder = resnet.ResNetEncoder(name, 3)
        assert list(encoder.state_dict()) == names
        assert len(names) == keys
        assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters

    def test_features_at_five_strides(self):
        encoder = resnet.ResNetEncoder("resnet18", 4).eval()
        with torch.no_grad():
            features = encoder(image(1, 4, 64, 96))
        assert [tuple(f.shape[1:]) for f in features] == [(64, 32, 48), (64, 16, 24), (128, 8, 12), (256, 4, 6), (512, 2, 3)]
        assert encoder.channels == (64, 64, 128, 256, 512)

    @pytest.mark.parametrize("name", ["unet", "linknet"])
    def test_resnet50_builds_and_runs(self, name):
        net = nets.build(name, 4, 2, encoder="resnet50").eval()
        assert net.encoder.channels == (64, 256, 512, 1024, 2048)
        with torch.no_grad():
            assert net(image(1, 4, 32, 40)).shape == (1, 2, 32, 40)

    @pytest.mark.parametrize("stage", range(5))
    @pytest.mark.parametrize("name", ["unet", "linknet"])
    def test_features_of_each_stride_reach_the_decoder(self, name, stage):
        """A skip that is forgotten leaves every shape right and the shores blurred."""
        torch.manual_seed(0)
        net = nets.build(name, 3, 1).eval()
        x = image(1, 3, 32, 32)

        def disturb(module, inputs, features):
            return [feature + (index == stage) * image(*feature.shape) for index, feature in enumerate(features)]

        with torch.no_grad():
            before = net(x)
            net.encoder.register_forward_hook(disturb)
            assert (net(x) - before).abs().max() > 1e-3

    def test_bottleneck_strides_in_its_3x3_convolution(self):
        """torchvision's weights were trained so; strides elsewhere load without a word and see wrongly."""
        block = resnet.ResNetEncoder("resnet50", 3).layer2[0]
        assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))


def torchvision_file(path, name="resnet18", **changes):
    """A file as torchvision publishes it: three bands, with classifier; `changes` replace tensors, None removes one."""
    torch.manual_seed(5)
    fresh = resnet.ResNetEncoder(name, 3).state_dict()
    state = {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in fresh.items()}
    state.update({"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)})
    for key, value in changes.items():
        state[key.replace("__", ".")] = value
    state = {key: value for key, value in state.items() if value is not None}
    if path.suffix == ".safetensors":
        safetensors_torch.save_file(state, path)
    else:
        torch.save(state, path)
    return state


class TestLoadImageNet:
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_three_bands_are_taken_as_they_are(self, tmp_path, suffix):
        path = tmp_path / f"weights{suffix}"
        state = torchvision_file(path)
        encoder = nets.build("unet", 3, 1).encoder
        resnet.load_imagenet(encoder, path)
        for key, value in encoder.state_dict().items():
            assert torch.equal(value, state[key]), key

    @pytest.mark.parametrize("bands", [1, 7, 12])
    def test_other_bands_get_the_mean_scaled(self, tmp_path, bands):
        state = torchvision_file(tmp_path / "weights.pth")
        encoder = resnet.ResNetEncoder("resnet18", bands)
        resnet.load_imagenet(encoder, tmp_path / "weights.pth")
        rgb = state["conv1.weight"]
        expected = (rgb[:, 0] + rgb[:, 1] + rgb[:, 2]) / bands  # mean over 3, times 3 / bands
        for band in range(bands):
            torch.testing.assert_close(encoder.conv1.weight[:, band], expected)
        # A grey image, all bands alike, gives what it gave with three.
        torch.testing.assert_close(encoder.conv1.weight.sum(1), rgb.sum(1))
        assert torch.equal(encoder.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])

    def test_files_from_before_the_batch_counters_load(self, tmp_path):
        counters = [key for key in resnet.ResNetEncoder("resnet18", 3).state_dict() if key.endswith("num_batches_tracked")]
        assert len(counters) == 20
        torchvision_file(tmp_path / "old.pth", **dict.fromkeys(counters))
        resnet.load_imagenet(resnet.ResNetEncoder("resnet18", 3), tmp_path / "old.pth")

    @pytest.mark.parametrize(
        "changes, said",
        [
            ({"layer3__0__bn1__weight": None}, "missing: layer3.0.bn1.weight"),
            (
                {"layer1__0__conv1__weight": torch.zeros(64, 64, 5, 5)},
                r"layer1.0.conv1.weight \(64, 64, 5, 5\) instead of \(64, 64, 3, 3\)",
            ),
            ({"conv1__weight": torch.zeros(64, 4, 7, 7)}, r"conv1.weight \(64, 4, 7, 7\) instead of \(64, 7, 7, 7\)"),
            ({"layer9__weight": torch.zeros(1)}, "unknown: layer9.weight"),
            ({"bn1__bias": torch.full((64,), float("nan"))}, "not finite"),
        ],
    )
    def test_a_file_that_does_not_fit_is_told_and_nothing_is_changed(self, tmp_path, changes, said):
        torchvision_file(tmp_path / "weights.pth", **changes)
        encoder = resnet.ResNetEncoder("resnet18", 7)
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        with pytest.raises(ModelError, match=said) as caught:
            resnet.load_imagenet(encoder, tmp_path / "weights.pth")
        assert caught.value.remedy
        assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())

    def test_a_deeper_networks_file_is_not_taken_in_part(self, tmp_path):
        """Every name of ResNet18 is in ResNet34's file, with the same shape."""
        torchvision_file(tmp_path / "resnet34.pth", "resnet34")
        with pytest.raises(ModelError, match=r"unknown: layer1\.2\.conv1\.weight"):
            resnet.load_imagenet(resnet.ResNetEncoder("resnet18", 3), tmp_path / "resnet34.pth")

    def test_a_hostile_pickle_is_not_run(self, tmp_path):
        canary = tmp_path / "ran"

        class Hostile:
            def __reduce__(self):
                return (Path.touch, (canary,))

        torch.save({"conv1.weight": Hostile()}, tmp_path / "hostile.pth")
        (tmp_path / "bare.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
        for name in ("hostile.pth", "bare.pt"):
            with pytest.raises(ModelError, match="could run code"):
                resnet.load_imagenet(resnet.ResNetEncoder("resnet18", 3), tmp_path / name)
        assert not canary.exists()
        torch.load(tmp_path / "hostile.pth", weights_only=False)
        assert canary.exists(), "the file was not hostile after all"

    def test_unreadable_files(self, tmp_path):
        torchvision_file(tmp_path / "whole.pth")
        (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:100_000])
        (tmp_path / "empty.pth").touch()
        (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 100)
        (tmp_path / "weights.h5").touch()
        torch.save([1, 2], tmp_path / "list.pth")
        torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "nested.pth")
        for name in ("half.pth", "empty.pth", "noise.safetensors", "weights.h5", "list.pth", "nested.pth", "absent.pth"):
            with pytest.raises(ModelError) as caught:
                resnet.load_imagenet(resnet.ResNetEncoder("resnet18", 3), tmp_path / name)
            assert name in caught.value.message and caught.value.remedy
