"""Settings of `downscaledem`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config, param
from . import shared
from .inference import DEVICES


@dataclass(frozen=True)
class DownscaleConfig(Config):
    """Settings of `downscaledem`."""

    resolution: float = param(
        0.0,
        "Pixel size",
        "Of the fine elevation model, in units of the base's CRS. 0: as fine as the model was trained for. Not used when a grid is given.",
        unit="map units",
        minimum=0,
        maximum=1e7,
    )
    consistent: bool = param(
        False,
        "Keep the coarse heights",
        "The mean of the fine heights in each pixel of the base becomes the base's height there (back-projection, a second pass). Right where the base is an average without noise; noise and errors of the base are kept, too.",
    )
    vertical: str = param(
        "model",
        "Vertical offset of further elevation models",
        "What is taken from their difference to the base before they take part: its median ('constant'), a tilted plane, nothing, or what was done in training ('model').",
        choices=("model", "constant", "plane", "none"),
        advanced=True,
    )
    window: int = param(
        0,
        "Window size",
        "Side of the square that the network sees at once. 0: chosen from the model. Larger ones need more memory; the heights stay the same.",
        unit="px",
        minimum=0,
        maximum=8192,
        advanced=True,
    )
    batch_size: int = shared.batch_size()
    flips: bool = param(
        False,
        "Average over flips",
        "Each window is also mapped mirrored and the results averaged: four times the time, slightly better heights.",
        advanced=True,
    )
    compression: str = shared.compression()
    device: str = param("auto", "Device", "'auto' takes a CUDA GPU when ONNX Runtime can use one.", choices=DEVICES, advanced=True)
    threads: int = shared.threads()
