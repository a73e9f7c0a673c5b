"""What the architectures share: padding to the stride, the convolution block, the first weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class PaddedNet(nn.Module):
    """A network whose `body` needs sizes that are multiples of `stride`, made to take any H, W >= 1.

    The image is extended at the bottom and the right, and the result is cropped back, so that row 0, column 0 stays where it is.
    The edge pixels are repeated: reflection is undefined when the padding is wider than the image (1 x 1 px), and zeros would be a value
    like any other after normalisation, a false shore. Written without branches on the size: a trace of it is right for every size.
    """

    stride: int = 32
    # The nominal receptive field (435 px with ResNet18) is wider than most windows, the effective one far narrower and bell-shaped:
    # no width is the right one to cut off. Overlapping windows with weights that fall towards the edge take care of it.
    margin: int = 0

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """(N, bands, H, W) -> (N, channels, H, W), H and W multiples of `stride`."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, bands, H, W) -> logits (N, channels, H, W) for any H, W >= 1."""
        rows, columns = x.shape[2], x.shape[3]
        # Not (-rows) % stride: the sign of a remainder differs between torch, ONNX and the runtimes.
        below = (self.stride - rows % self.stride) % self.stride
        right = (self.stride - columns % self.stride) % self.stride
        return self.body(F.pad(x, (0, right, 0, below), mode="replicate"))[:, :, :rows, :columns]


def conv_block(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Convolution that keeps the size, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def initialise(net: nn.Module, head: nn.Module) -> None:
    """First weights: He et al. 2015 (10.1109/ICCV.2015.123), normal, fan_out, as torchvision does for ResNet.

    The `head` (last layer, no normalisation after it) is scaled by its fan_in instead: fan_out of a layer with one output channel
    would start with logits of several units, a network that is sure before it has seen anything.
    """
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.kaiming_normal_(head.weight, mode="fan_in", nonlinearity="linear")
