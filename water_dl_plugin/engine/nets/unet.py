"""U-Net (Ronneberger et al. 2015, 10.1007/978-3-319-24574-4_28) on a ResNet encoder."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .blocks import PaddedNet, conv_block, initialise
from .resnet import ResNetEncoder

#: Channels after each decoder step, from stride 16 to full resolution: they halve as the pixels quadruple, to suit a processor.
DECODER = (256, 128, 64, 32, 16)


class UNet(PaddedNet):
    """Encoder-decoder whose decoder steps see the encoder's features of the same size beside their own (concatenated).

    Our choices: convolutions keep the size (the published ones shrink it), with batch normalisation; nearest-neighbour upsampling followed
    by convolution instead of transposed convolution (no checkerboard, and its gradient is summed in a fixed order on GPUs, too). The
    encoder halves the size at once, so the last step takes the image itself beside it: the spectrum of the single pixel, which tells much
    of what is water, reaches the output unsmoothed.
    """

    def __init__(self, bands: int, channels: int, encoder: str = "resnet18"):
        super().__init__()
        self.encoder = ResNetEncoder(encoder, bands)
        *skips, inputs = self.encoder.channels
        self.decoder = nn.ModuleList()
        for skip, outputs in zip((*reversed(skips), bands), DECODER):
            self.decoder.append(nn.Sequential(conv_block(inputs + skip, outputs), conv_block(outputs, outputs)))
            inputs = outputs
        self.head = nn.Conv2d(inputs, channels, 1)
        initialise(self, self.head)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        *skips, y = self.encoder(x)
        for step, skip in zip(self.decoder, (*reversed(skips), x)):
            y = step(torch.cat([F.interpolate(y, scale_factor=2.0, mode="nearest"), skip], 1))
        return self.head(y)
