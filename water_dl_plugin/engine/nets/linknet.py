"""LinkNet (Chaurasia and Culurciello 2017, 10.1109/VCIP.2017.8305148) on a ResNet encoder; LinkNet50 with `encoder="resnet50"`."""

from __future__ import annotations

import torch
from torch import nn

from .blocks import PaddedNet, conv_block, initialise
from .resnet import ResNetEncoder

#: Channels at full resolution, as published.
FINAL = 32


class LinkNet(PaddedNet):
    """Encoder-decoder whose decoder steps get the encoder's features of the same size added: light and quick.

    A decoder block is a 1x1 convolution to a quarter of the channels, a 3x3 transposed convolution that doubles the size and a 1x1
    convolution to the channels of the encoder stage below it, each with batch normalisation and ReLU.
    The description of the glacial-lake network with ResNet50 leaves open, and we choose:

    - The fourth block ends at stride 2, where the encoder's stem (64 channels) is added like the other stages. The LinkNet paper adds
      stages only; the stem is there anyway and holds the finest features.
    - After the 4x4 transposed convolution to full resolution (`FINAL` channels; an even kernel with stride 2 reaches each pixel equally
      often) stands a 3x3 convolution, as in the LinkNet paper's last block, and the classifier, a 3x3 convolution that keeps the size.
    """

    def __init__(self, bands: int, channels: int, encoder: str = "resnet18"):
        super().__init__()
        self.encoder = ResNetEncoder(encoder, bands)
        *skips, inputs = self.encoder.channels
        self.decoder = nn.ModuleList()
        for outputs in reversed(skips):
            self.decoder.append(_decoder_block(inputs, outputs))
            inputs = outputs
        self.final = nn.Sequential(
            nn.ConvTranspose2d(inputs, FINAL, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(FINAL),
            nn.ReLU(inplace=True),
            conv_block(FINAL, FINAL),
        )
        self.head = nn.Conv2d(FINAL, channels, 3, padding=1)
        initialise(self, self.head)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        *skips, y = self.encoder(x)
        for block, skip in zip(self.decoder, reversed(skips)):
            y = block(y) + skip
        return self.head(self.final(y))


def _decoder_block(inputs: int, outputs: int) -> nn.Sequential:
    quarter = inputs // 4
    return nn.Sequential(
        *conv_block(inputs, quarter, kernel=1),
        nn.ConvTranspose2d(quarter, quarter, 3, stride=2, padding=1, output_padding=1, bias=False),
        nn.BatchNorm2d(quarter),
        nn.ReLU(inplace=True),
        *conv_block(quarter, outputs, kernel=1),
    )
