"""Attention on the bands and on the pixels of an image (CBAM: Woo et al. 2018, 10.1007/978-3-030-01234-2_1), put before a network."""

from __future__ import annotations

import torch
from torch import nn

#: Width of the shared perceptron's hidden layer. The published one divides the channels by 16, which leaves none of three bands.
HIDDEN = 8
KERNEL = 7


class ChannelAttention(nn.Module):
    """A weight in 0..1 per band: sigmoid of the sum of one perceptron's answers to the global mean and to the global maximum."""

    def __init__(self, bands: int):
        super().__init__()
        self.perceptron = nn.Sequential(nn.Linear(bands, HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, bands))

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(N, bands, H, W) -> (N, bands)."""
        return torch.sigmoid(self.perceptron(x.mean((2, 3))) + self.perceptron(x.amax((2, 3))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weights(x)[:, :, None, None]


class SpatialAttention(nn.Module):
    """A weight in 0..1 per pixel: sigmoid of a convolution over the mean and the maximum of its bands."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, KERNEL, padding=KERNEL // 2)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(N, bands, H, W) -> (N, 1, H, W)."""
        return torch.sigmoid(self.convolution(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weights(x)


def attention(name: str, bands: int) -> nn.Sequential:
    """'none', 'cam' (bands) or 'csam' (bands, then pixels), an empty sequence for 'none'. The name must be one of `nets.ATTENTIONS`."""
    parts = {"none": (), "cam": (ChannelAttention(bands),), "csam": (ChannelAttention(bands), SpatialAttention())}
    return nn.Sequential(*parts[name])
