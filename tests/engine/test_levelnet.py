"""The level network as published: 7x7 stem, 3 + 4 + 6 + 3 basic blocks, one number; attention on bands and on pixels before it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from water_dl_plugin.engine import nets
from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.nets.attention import ChannelAttention, SpatialAttention
from water_dl_plugin.engine.nets.resnet import BasicBlock


def image(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fresh(bands=3, **arguments):
    torch.manual_seed(0)
    return nets.build("levelnet", bands, 1, **arguments).eval()


@pytest.mark.parametrize("encoder, blocks", [("resnet18", [2, 2, 2, 2]), ("resnet34", [3, 4, 6, 3])])
def test_blocks_and_shapes_are_the_published_ones(encoder, blocks):
    net = fresh(encoder=encoder)
    stem = net.encoder.conv1
    assert (stem.kernel_size, stem.stride, stem.out_channels) == ((7, 7), (2, 2), 64)
    assert (net.encoder.maxpool.kernel_size, net.encoder.maxpool.stride) == (3, 2)
    stages = [getattr(net.encoder, f"layer{i}") for i in (1, 2, 3, 4)]
    assert [len(s) for s in stages] == blocks and all(isinstance(b, BasicBlock) for s in stages for b in s)
    x = image(2, 3, 64, 64)
    assert [tuple(f.shape[1:]) for f in net.encoder(x)] == [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert net(x).shape == (2, 1) and net.head.in_features == 512


@pytest.mark.parametrize("attention", nets.ATTENTIONS)
@pytest.mark.parametrize("bands, size", [(1, (1, 1)), (2, (33, 50)), (3, (96, 96)), (12, (40, 64))])
def test_any_bands_and_size_give_one_number_that_each_band_moves(attention, bands, size):
    net, x = fresh(bands, attention=attention), image(3, bands, *size)
    with torch.no_grad():
        before = net(x)
        assert before.shape == (3, 1) and (before - 0.5).abs().max() < 0.4  # the middle of levels scaled to 0..1
        for band in range(bands):
            changed = x.clone()
            changed[:, band] += 1
            assert (net(changed) - before).abs().max() > 1e-6, f"band {band} changes nothing"


def test_channel_attention_is_the_sigmoid_of_the_sum_of_one_perceptron_twice():
    torch.manual_seed(3)
    cam, x = ChannelAttention(4), image(2, 4, 9, 7)
    first, second = cam.perceptron[0], cam.perceptron[2]
    mean, most = x.numpy().mean((2, 3)), x.numpy().max((2, 3))

    def perceptron(v):
        hidden = np.maximum(v @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
        return hidden @ second.weight.detach().numpy().T + second.bias.detach().numpy()

    wanted = 1 / (1 + np.exp(-(perceptron(mean) + perceptron(most))))
    with torch.no_grad():
        np.testing.assert_allclose(cam.weights(x).numpy(), wanted, rtol=1e-5)
        np.testing.assert_allclose(cam(x).numpy(), x.numpy() * wanted[:, :, None, None], rtol=1e-5)


def test_spatial_attention_is_the_sigmoid_of_a_convolution_of_mean_and_maximum():
    torch.manual_seed(4)
    part, x = SpatialAttention(), image(2, 5, 12, 10)
    both = torch.stack([x.mean(1), x.amax(1)], 1)
    with torch.no_grad():
        wanted = torch.sigmoid(torch.nn.functional.conv2d(both, part.convolution.weight, part.convolution.bias, padding=3))
        given = part.weights(x)
        assert given.shape == (2, 1, 12, 10) and part.convolution.kernel_size == (7, 7)
        torch.testing.assert_close(given, wanted)
        torch.testing.assert_close(part(x), x * wanted)


def test_attention_changes_the_output_and_its_order_is_bands_then_pixels():
    x, given = image(2, 3, 32, 32), {}
    for name in nets.ATTENTIONS:
        net = fresh(attention=name)
        net.encoder.load_state_dict(fresh(attention="none").encoder.state_dict())
        net.head.load_state_dict(fresh(attention="none").head.state_dict())
        with torch.no_grad():
            given[name] = net(x)
        assert [type(p).__name__ for p in net.attention] == ["ChannelAttention", "SpatialAttention"][
            : {"none": 0, "cam": 1, "csam": 2}[name]
        ]
    assert (given["cam"] - given["none"]).abs().max() > 1e-5 and (given["csam"] - given["cam"]).abs().max() > 1e-5


def test_attention_learns():
    """Only band 0 tells the number, band 1 is strong noise: after training its weight is the smaller one."""
    torch.manual_seed(0)
    cam, head = ChannelAttention(2), torch.nn.Linear(2, 1)
    optimiser = torch.optim.Adam([*cam.parameters(), *head.parameters()], 0.02)
    for step in range(200):
        x = image(32, 2, 4, 4, seed=step)
        x[:, 1] *= 5
        optimiser.zero_grad()
        (head(cam(x).mean((2, 3)))[:, 0] - x[:, 0].mean((1, 2))).square().mean().backward()
        optimiser.step()
    weights = cam.weights(image(64, 2, 4, 4, seed=999) * torch.tensor([1.0, 5.0])[:, None, None]).mean(0)
    assert weights[0] > 2 * weights[1]


def test_a_wrong_attention_is_told():
    with pytest.raises(ConfigError, match="no attention 'se'.*none, cam, csam"):
        fresh(attention="se")


def test_it_says_what_suits_it():
    assert (nets.usual("levelnet", "gives"), nets.usual("levelnet", "epochs"), nets.usual("unet", "gives")) == ("number", 60, "image")


@pytest.mark.parametrize("attention", ["cam", "csam"])
def test_exported_it_gives_the_same(tmp_path, attention):
    net, x = fresh(attention=attention), image(2, 3, 48, 48)
    torch.onnx.export(net, (x,), str(tmp_path / "m.onnx"), dynamo=False, opset_version=17, input_names=["i"], output_names=["o"],
                      dynamic_axes={"i": {0: "n", 2: "h", 3: "w"}, "o": {0: "n"}})  # fmt: skip
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    for size in (48, 70):
        y = image(3, 3, size, size, seed=5)
        with torch.no_grad():
            np.testing.assert_allclose(session.run(None, {"i": y.numpy()})[0], net(y).numpy(), atol=1e-5)
