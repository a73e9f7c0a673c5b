"""Weights to begin training with: of a model of ours, or torchvision's ImageNet weights for the encoder."""

from __future__ import annotations

import os
from typing import Callable, Optional

from torch import nn

from . import bundle, checkpoint
from .errors import ModelError
from .nets.resnet import load_imagenet
from .normalise import Normalisation


def load(net: nn.Module, path: str, bands: int, architecture: str, arguments: dict, say: Callable[[str], None]) -> Optional[Normalisation]:
    """Put weights into `net`. Returns the normalisation that goes with them (of a model of ours), else None. Raises `ModelError`."""
    if not os.path.isfile(path):
        raise ModelError(f"There is no file {path} to start from.", "Check the path.")
    weights = bundle.weights_beside(path) if path.lower().endswith(".onnx") else path
    ours = checkpoint.load(weights) if weights.endswith(".safetensors") else None
    if ours is None:
        if weights != path:
            raise ModelError(
                f"The weights {os.path.basename(weights)} are not beside the model file.", "Keep NAME.safetensors beside NAME.onnx."
            )
        if not hasattr(net, "encoder"):
            raise ModelError(
                f"{architecture} has no encoder that could start from {os.path.basename(path)}.",
                "Choose a model file of Water DL, or unet or linknet.",
            )
        load_imagenet(net.encoder, path)
        say(f"The encoder starts from {os.path.basename(path)}.")
        return None
    tensors, state = ours
    if (state.get("architecture"), state.get("arguments")) != (architecture, arguments):
        raise ModelError(
            f"The weights are of {state.get('architecture')} {state.get('arguments')}, not of {architecture} {arguments}.",
            "Choose the same network and encoder.",
        )
    if not all(bool(t.isfinite().all()) for t in tensors.values()):
        raise ModelError(f"{os.path.basename(weights)} holds values that are not finite numbers.", "Get the file again from its maker.")
    own = net.state_dict()
    fitting = {k: v for k, v in tensors.items() if k in own and own[k].shape == v.shape}
    left = sorted(set(own) - set(fitting))
    if any(not k.startswith("head") for k in left):
        raise ModelError(
            f"The weights don't fit: {left[0]} has another shape.",
            "Number and order of bands must be those of the model that you start from.",
        )
    net.load_state_dict(fitting, strict=False)
    say(f"Starts from {os.path.basename(path)}{' except for the last layer, since the classes differ' if left else ''}.")
    return Normalisation.from_json(state.get("normalisation"), bands)
