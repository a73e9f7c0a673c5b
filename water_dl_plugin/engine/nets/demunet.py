"""U-Net that makes an elevation model finer: it predicts what is to be added to the interpolated one, and how far off that may be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import ConfigError
from .blocks import PaddedNet, conv_block, initialise

#: Half the side of the square in px over which the terrain's form and roughness are taken: as wide as some pixels of the coarse model.
REACH = 6
_SMALLEST = 1e-3  # m: roughness below it is rounding
_LEAST_UNIT = 0.05  # m
_LARGEST = 10.0  # units: a void that another elevation model filled with anything must not rule the network


class DemUNet(PaddedNet):
    """Base elevation (and further bands) on the fine grid -> residual and expected error, both in the unit of the elevations.

    Ronneberger et al. 2015 (10.1007/978-3-319-24574-4_28) for the form of the network, Jiang et al. 2018 and others for the residual.

    Our choices. The network never sees a height, a slope or a size: the base comes as its difference to the mean over `2 REACH + 1` px,
    divided by the root mean square of that difference there (the *unit*), other elevation models as their difference to the base in the
    same unit. The residual is a multiple of the unit, so rough terrain is changed more than smooth terrain, and a level or a tilted plane
    comes back untouched, bit for bit. Telling the network the unit or the slope made it no better where it was trained and far worse
    elsewhere (docs/downscaling.md). Since nothing depends on the window as a whole, a pixel farther than `margin` from a window's edge has the same result in every
    window whose corners are multiples of `stride`.

    `elevations`: the numbers of the elevation bands, the base first; `depth`: levels below full resolution; `width`: channels at full
    resolution; `absolute`: the elevation is built from the mean of its surroundings, not from the base.
    """

    learning_rate = 3e-3  # 5e-4 gained 15 % in 20 epochs where 2e-3 gained 18 % and 4e-3 19.5 %

    def __init__(
        self, bands: int, channels: int = 2, elevations: Sequence[int] = (0,), depth: int = 3, width: int = 24, absolute: bool = False
    ):
        super().__init__()
        if not elevations or not all(isinstance(i, int) and 0 <= i < bands for i in elevations) or channels != 2:
            raise ConfigError("The network demunet is for chips with elevation bands.", "Export chips of values, with an elevation model.")
        self.elevations, self.absolute = tuple(elevations), absolute
        self.images = tuple(i for i in range(bands) if i not in self.elevations)
        self.stride, self.margin = 2**depth, -(-(7 * 2**depth - 5 + 2 * REACH) // 2**depth) * 2**depth
        inputs, sizes = len(self.elevations) + len(self.images), [width * 2**level for level in range(depth + 1)]
        self.encoder_steps = nn.ModuleList(
            nn.Sequential(conv_block(before, size), conv_block(size, size)) for before, size in zip((inputs, *sizes), sizes)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(conv_block(3 * size, size), conv_block(size, size)) for size in reversed(sizes[:-1])
        )  # what comes from below has twice as many channels
        self.head = nn.Conv2d(width, 2, 1)
        initialise(self, self.head)
        nn.init.zeros_(self.head.weight)  # the first answer is the interpolated elevation
        nn.init.zeros_(self.head.bias)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        heights = x[:, list(self.elevations)]
        base = heights[:, :1]
        form = base - _mean(base)
        unit = F.relu(_mean(form.square(), odd=False).clamp_min(1e-12).sqrt() - _SMALLEST)
        scale = unit + _LEAST_UNIT
        relative = torch.cat([form, heights[:, 1:] - base], 1) / scale
        y = torch.cat([relative.clamp(-_LARGEST, _LARGEST), x[:, list(self.images)]], 1)
        skips = []
        for step in self.encoder_steps[:-1]:
            skips.append(step(y))
            y = F.avg_pool2d(skips[-1], 2)
        y = self.encoder_steps[-1](y)
        for step, skip in zip(self.decoder, reversed(skips)):
            y = step(torch.cat([F.interpolate(y, scale_factor=2.0, mode="nearest"), skip], 1))
        residual, spread = self.head(y).split(1, 1)
        residual = residual * unit
        return torch.cat([residual - form if self.absolute else residual, F.softplus(spread) * scale], 1)


def _mean(x: torch.Tensor, odd: bool = True) -> torch.Tensor:
    """Mean over the square around each pixel. Beyond the window the surface goes on as it was (`odd`), so that a plane stays one."""
    for axis in (3, 2):
        pad = (REACH, REACH, 0, 0) if axis == 3 else (0, 0, REACH, REACH)
        edges = F.pad(x, pad, mode="replicate")
        if x.shape[axis] > REACH:  # else too narrow to be mirrored; no window of `infer` is
            mirrored = F.pad(x, pad, mode="reflect")
            edges = 2 * edges - mirrored if odd else mirrored
        x = F.avg_pool2d(edges, (1, 2 * REACH + 1) if axis == 3 else (2 * REACH + 1, 1), 1)
    return x
