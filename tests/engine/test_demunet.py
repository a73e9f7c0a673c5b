"""demunet: planes come back untouched, and a pixel's result does not depend on the window it lies in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from water_dl_plugin.engine import nets
from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.nets.demunet import REACH


def trained(bands=1, elevations=(0,), depth=2, width=4, absolute=False, seed=0):
    """A network whose weights, also those of the head that begins with zeros, are anything."""
    torch.manual_seed(seed)
    net = nets.build("demunet", bands, 2, elevations=list(elevations), depth=depth, width=width, absolute=absolute).train()
    with torch.no_grad():
        for _ in range(3):
            net(terrain(2, bands, 64, 64, seed=seed + 5) * 3)
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net.eval()


def terrain(*shape, seed=0):
    rough = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return rough.cumsum(-1).cumsum(-2) / 20 + 10 * rough


def run(net, x):
    with torch.no_grad():
        return net(x)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_pixel_beyond_the_margin_matters_and_the_margin_is_not_wasted(depth):
    net = trained(depth=depth).double()
    side = 2 * net.margin + 64
    x = terrain(1, 1, side, side).double().requires_grad_()
    place = (
        side // 2 // net.stride * net.stride + net.stride - 1
    )  # the last pixel of a cell of the coarsest level sees farthest to the left
    reach = 0
    for at in (place, place + 1):
        (seen,) = torch.autograd.grad(net(x)[0, :, at, at].sum(), x)
        where = torch.nonzero(seen[0, 0].abs() > 0)
        reach = max(reach, int((where - at).abs().max()))
    assert net.margin - net.stride - 2 * REACH <= reach <= net.margin


def test_windows_on_multiples_of_the_stride_agree_but_for_their_margin():
    net = trained().double()
    x = terrain(1, 1, 240, 240).double()
    whole, m = run(net, x), net.margin
    for top, left in ((0, 0), (32, 60), (100, 4)):
        part = run(net, x[:, :, top : top + 128, left : left + 128])
        inner = slice(m, 128 - m)
        torch.testing.assert_close(
            part[..., inner, inner], whole[..., top + m : top + 128 - m, left + m : left + 128 - m], rtol=0, atol=1e-9
        )
    shifted = run(net, x[:, :, 1:129, 1:129])[..., m : 128 - m, m : 128 - m]
    assert (shifted - whole[..., 1 + m : 129 - m, 1 + m : 129 - m]).abs().max() > 1e-3  # else this test says nothing


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.7, -0.3), (2.0, 1.5)])
def test_level_and_tilted_planes_come_back_untouched_up_to_the_borders(slope):
    rows, cols = torch.meshgrid(torch.arange(96.0), torch.arange(80.0), indexing="ij")
    plane = (slope[0] * rows + slope[1] * cols)[None, None]
    given = run(trained(), plane - plane.mean().round())
    assert torch.equal(given[:, 0], torch.zeros_like(given[:, 0]))
    assert (given[:, 1] > 0).all() and run(trained(), terrain(1, 1, 96, 80))[:, 0].abs().max() > 0.1


def test_the_height_above_the_sea_does_not_matter():
    net = trained().double()
    x = terrain(1, 1, 96, 96).double()
    torch.testing.assert_close(run(net, x + 4321.0), run(net, x), rtol=0, atol=1e-7)


def test_terrain_twice_as_high_gets_twice_the_residual():
    net = trained().double()
    x = terrain(1, 1, 96, 96).double() * 50  # far above the least unit
    torch.testing.assert_close(run(net, 2 * x), 2 * run(net, x), rtol=2e-3, atol=0.05)


def test_a_fresh_network_gives_the_interpolated_elevation():
    torch.manual_seed(0)
    given = run(nets.build("demunet", 2, 2, elevations=[0]).eval(), terrain(1, 2, 64, 64))
    assert torch.equal(given[:, 0], torch.zeros_like(given[:, 0])) and (given[:, 1] > 0).all()


def test_absolute_builds_on_the_surroundings_not_on_the_base():
    torch.manual_seed(0)
    net = nets.build("demunet", 1, 2, elevations=[0], absolute=True).eval()
    x = terrain(1, 1, 96, 96)
    result = (x + run(net, x)[:, :1])[0, 0, 40:56, 40:56]
    means = torch.nn.functional.avg_pool2d(x, 2 * REACH + 1, 1)[0, 0, 40 - REACH : 56 - REACH, 40 - REACH : 56 - REACH]
    torch.testing.assert_close(result, means, rtol=0, atol=1e-3)


@pytest.mark.parametrize("band", [0, 1, 2])
def test_every_band_matters(band):
    net = trained(bands=3, elevations=(0, 2))
    x = terrain(1, 3, 96, 96)
    changed = x.clone()
    changed[:, band, 40:50, 40:50] += 5.0
    assert (run(net, changed) - run(net, x)).abs().max() > 1e-3


def test_a_wild_value_of_another_elevation_model_does_not_rule():
    net = trained(bands=2, elevations=(0, 1))
    x = terrain(1, 2, 96, 96)
    wild, wilder = x.clone(), x.clone()
    wild[:, 1, 48, 48], wilder[:, 1, 48, 48] = -32768.0, -1e9
    torch.testing.assert_close(run(net, wild), run(net, wilder))


@pytest.mark.parametrize("elevations,channels", [((), 2), ((3,), 2), ((-1,), 2), ((0,), 1)])
def test_it_is_for_elevations_only(elevations, channels):
    with pytest.raises(ConfigError, match="elevation"):
        nets.build("demunet", 3, channels, elevations=list(elevations))


def test_small_and_odd_windows_work():
    net = trained()
    for size in ((1, 1), (7, 9), (33, 65)):
        given = run(net, terrain(1, 1, *size))
        assert given.shape == (1, 2, *size) and np.isfinite(given.numpy()).all()
