"""Settings of `assessdem`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config, param


@dataclass(frozen=True)
class AssessDemConfig(Config):
    """Settings of `assessdem`."""

    coregister: str = param(
        "none",
        "Coregister",
        "'none': heights are compared where they lie. 'vertical': each raster's median height difference to the reference is taken away first "
        "(another vertical datum). 'full': its horizontal shift, too (Nuth and Kääb 2011); sampling between pixels smooths a little. What shift "
        "and offset were found is reported in any case.",
        choices=("none", "vertical", "full"),
    )
    slope_limits: str = param(
        "5, 15, 30",
        "Limits of the slope classes",
        "Slopes of the reference in rising order, separated by commas. A pixel belongs to the class that begins with its slope.",
        unit="degrees",
    )
    band: int = param(
        0, "Band", "Number of the band with the heights, if the DEM has several. 0: it has one.", minimum=0, maximum=100_000, advanced=True
    )
    aspect_slope: float = param(
        2.0,
        "Aspect from a slope of",
        "Directions are compared where the reference is at least as steep: level ground has none.",
        unit="degrees",
        minimum=0.1,
        maximum=89,
        advanced=True,
    )
