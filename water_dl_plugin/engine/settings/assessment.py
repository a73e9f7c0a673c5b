"""Settings of `assessclassification`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..config import Config, param


@dataclass(frozen=True)
class AssessConfig(Config):
    """Settings of `assessclassification`."""

    class_field: str = param(
        "", "Class field", "Field of the truth layer that names the class, as text or whole number. Not needed for a truth raster."
    )
    positive: str = param(
        "",
        "Class of interest",
        "Name or number of the class that POD, FAR, CSI and the best threshold are about. Empty: the last one (water).",
    )
    unlabelled: str = param(
        "ignored",
        "Unlabelled pixels are",
        "'ignored', or 'background': truth polygons are complete and everything else is the first class.",
        choices=("ignored", "background"),
    )
    threshold: Optional[float] = param(
        None, "Threshold", "For a probability raster. Empty: the one that the raster was made with, else 0.5.", minimum=0, maximum=1
    )
    classes: str = param(
        "",
        "Classes of the map",
        "Only if the raster names none: 'land=0, water=1' (for a probability raster 'land, water').",
        advanced=True,
    )
    buffer: float = param(
        0.0,
        "Buffer",
        "Truth lines and points are widened by this distance on each side.",
        unit="map units of the raster",
        minimum=0,
        advanced=True,
    )
    seed: int = param(0, "Seed", "Of the bootstrap that gives the intervals.", minimum=0, maximum=2**31 - 1, advanced=True)
