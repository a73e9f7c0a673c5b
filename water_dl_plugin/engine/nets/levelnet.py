"""ResNet with attention that gives one number per image: the water level of a reservoir."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import ConfigError
from . import ATTENTIONS
from .attention import attention as make_attention
from .blocks import initialise
from .resnet import ResNetEncoder


class LevelNet(nn.Module):
    """(N, bands, H, W) -> (N, channels), any H and W: attention on the input, ResNet (He et al. 2016, 10.1109/CVPR.2016.90), mean over all
    pixels, one linear layer. The first answers are about 0.5, the middle of levels that are scaled to 0..1.
    """

    gives = "number"
    epochs = 60
    stride = 32
    margin = 0

    def __init__(self, bands: int, channels: int = 1, encoder: str = "resnet18", attention: str = "cam"):
        super().__init__()
        if attention not in ATTENTIONS:
            raise ConfigError(f"There is no attention {str(attention)[:60]!r}.", f"Choose one of: {', '.join(ATTENTIONS)}.")
        self.attention = make_attention(attention, bands)
        self.encoder = ResNetEncoder(encoder, bands)
        self.head = nn.Linear(self.encoder.channels[-1], channels)
        initialise(self, self.head)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.attention(x))[-1].mean((2, 3)))
