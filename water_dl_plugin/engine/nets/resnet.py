"""ResNet encoders (He et al. 2016, 10.1109/CVPR.2016.90) in plain torch, with torchvision's parameter names.

Because the names agree, torchvision's ImageNet files load by path (`load_imagenet`); torchvision itself is not needed.
As there, the stride of a bottleneck sits on its 3x3 convolution ("ResNet v1.5").
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Optional, Union

import torch
from torch import nn

from ..errors import ConfigError, ModelError

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: Optional[nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a shortcut; four times `width` comes out."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: Optional[nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


SPECIFICATIONS = {"resnet18": (BasicBlock, (2, 2, 2, 2)), "resnet34": (BasicBlock, (3, 4, 6, 3)), "resnet50": (Bottleneck, (3, 4, 6, 3))}


class ResNetEncoder(nn.Module):
    """ResNet without its classifier.

    `forward(x: (N, bands, H, W))`, H and W multiples of 32, gives five feature maps at strides 2, 4, 8, 16 and 32;
    `channels` holds their widths. Raises `ConfigError` for an unknown `name`.
    """

    def __init__(self, name: str, bands: int):
        super().__init__()
        if not isinstance(name, str) or name not in SPECIFICATIONS:
            raise ConfigError(f"There is no encoder {str(name)[:60]!r}.", f"Choose one of: {', '.join(SPECIFICATIONS)}.")
        block, depths = SPECIFICATIONS[name]
        self.name = name
        self.conv1 = nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for index, (width, depth) in enumerate(zip(WIDTHS, depths)):
            setattr(self, f"layer{index + 1}", _stage(block, inputs, width, depth, stride=1 if index == 0 else 2))
            inputs = width * block.expansion
        self.channels = (64, *(width * block.expansion for width in WIDTHS))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = [self.relu(self.bn1(self.conv1(x)))]
        x = self.maxpool(features[0])
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


def _stage(block: type, inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
    outputs = width * block.expansion
    downsample = None
    if stride != 1 or inputs != outputs:
        downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    first = block(inputs, width, stride, downsample)
    return nn.Sequential(first, *(block(outputs, width, 1, None) for _ in range(depth - 1)))


def load_imagenet(encoder: ResNetEncoder, path: Union[str, Path]) -> None:
    """Put the weights of a torchvision ResNet file (`.pth`, `.pt` or `.safetensors`) into `encoder`.

    The classifier (`fc.*`) is left out. A first convolution for three bands goes into an encoder with another number as the mean over
    red, green and blue, repeated and scaled by 3 / bands, so that the sum over the bands keeps its size; one that is made for just as many
    bands as the encoder has is taken as it is. Only tensors are read: a file with any other object in it is refused, not run.
    Raises `ModelError` for a file that is missing, damaged, hostile, or of another network; the encoder is then unchanged.
    """
    given = {name: tensor for name, tensor in _read_tensors(Path(path)).items() if not name.startswith("fc.")}
    wanted = encoder.state_dict()
    # Files from before 2018 don't hold these counters, and nothing is computed with them here.
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in wanted]
    bands = encoder.conv1.in_channels
    if not missing and not unknown and bands != 3 and given["conv1.weight"].shape == (64, 3, 7, 7):
        mean = given["conv1.weight"].float().mean(1, keepdim=True)
        given["conv1.weight"] = mean.repeat(1, bands, 1, 1) * (3 / bands)
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    problems = [
        f"{what}: {', '.join(found[:5])}{' and more' if len(found) > 5 else ''}"
        for what, found in (("missing", missing), ("unknown", unknown), ("other shape", shapes))
        if found
    ]
    if problems:
        raise ModelError(f"{path} does not fit {encoder.name}; {'; '.join(problems)}.", f"Give torchvision's file for {encoder.name}.")
    if not all(torch.isfinite(tensor).all() for tensor in given.values()):
        raise ModelError(f"{path} holds values that are not finite numbers.", "Get the file again from its source.")
    encoder.load_state_dict({**wanted, **given})


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"There is no file {path}.", "Give the path of a ResNet weight file on this computer.")
    suffix = path.suffix.lower()
    if suffix not in (".pth", ".pt", ".safetensors"):
        raise ModelError(f"{path} is not a weight file.", "Give a file that ends in .pth, .pt or .safetensors.")
    try:
        if suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors = load_file(path)
        elif _release() < (2, 6):  # before, tensors-only loading could be made to run code (CVE-2025-32434)
            raise ModelError(
                f"{path} can't be read safely with torch {torch.__version__}.", "Update torch, or give the file as .safetensors."
            )
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path} is damaged or holds objects other than tensors, which could run code.",
            "Give a plain state dict, better as .safetensors.",
        ) from None
    except Exception as error:  # safetensors, zip and torch raise many types for one fact: unreadable
        raise ModelError(f"{path} can't be read: {str(error)[:200]}", "Get the file again from its source.") from error
    if not isinstance(tensors, dict) or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in tensors.items()):
        raise ModelError(f"{path} is not a state dict (names with tensors).", "Give the file as torchvision publishes it.")
    return tensors


def _release() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
