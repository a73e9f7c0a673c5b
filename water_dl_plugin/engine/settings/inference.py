"""Settings of `classifyraster`, and of everything that runs a model over a raster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..config import Config, param
from . import shared

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class InferConfig(Config):
    """Settings of `classifyraster`, and of everything that runs a model over a raster."""

    bands: str = param("", "Bands", "The raster's bands in the model's order: '1-4', '3,2,1', 'B3,B8'. Empty: all.")
    threshold: Optional[float] = param(
        None,
        "Threshold",
        "Two classes: the class of interest is drawn from this probability on. Empty: the model's own.",
        minimum=0,
        maximum=1,
    )
    overlap: int = param(
        64, "Overlap", "Pixels that neighbouring windows share and in which they are blended.", unit="px", minimum=0, maximum=4096
    )
    window: int = param(
        0,
        "Window size",
        "Side of the square that the network sees at once. 0: chosen from the model. Larger ones give more context and need more memory.",
        unit="px",
        minimum=0,
        maximum=8192,
        advanced=True,
    )
    batch_size: int = shared.batch_size()
    blending: str = param(
        "blend",
        "At seams",
        "'blend': weighted mean over the overlap; 'crop': each pixel from the window that has it nearest to its centre.",
        choices=("blend", "crop"),
        advanced=True,
    )
    flips: bool = param(
        False,
        "Average over flips",
        "Each window is also mapped mirrored and the results averaged: four times the time, slightly better outlines.",
        advanced=True,
    )
    nodata: str = param("any", "A pixel is nodata if", "'any' of its bands is nodata, or 'all' are.", choices=("any", "all"), advanced=True)
    compression: str = shared.compression()
    device: str = param("auto", "Device", "'auto' takes a CUDA GPU when ONNX Runtime can use one.", choices=DEVICES, advanced=True)
    threads: int = shared.threads()
    divide_by: float = param(
        1.0,
        "Foreign model: divide by",
        "Only for a model without a stored normalisation: pixels are divided by this number, e.g. 255.",
        minimum=1e-6,
        maximum=1e9,
        advanced=True,
    )
    activation: str = param(
        "none",
        "Foreign model: activation",
        "Only for a model whose output is not yet a probability.",
        choices=("none", "sigmoid", "softmax"),
        advanced=True,
    )
