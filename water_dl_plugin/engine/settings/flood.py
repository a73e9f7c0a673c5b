"""Settings of `floodextent` and `assessflood`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..config import Config, param
from . import shared


@dataclass(frozen=True)
class FloodConfig(Config):
    """Settings of `floodextent`."""

    method: str = param(
        "bathtub",
        "Method",
        "'bathtub': a level water surface, for lakes, reservoirs and coasts. 'hand': water rises by the same height above every stream (height above "
        "the nearest drainage), for rivers.",
        choices=("bathtub", "hand"),
    )
    level: Optional[float] = param(
        None,
        "Water level",
        "Only for 'bathtub': height of the water surface, in the elevation model's unit and vertical datum.",
        minimum=-100_000,
        maximum=100_000,
    )
    stage: float = param(
        1.0, "Stage", "Only for 'hand': how far the water stands above the streams' cells, in the elevation model's unit.", minimum=0
    )
    stream_area: float = param(
        1.0,
        "Streams begin at",
        "Only for 'hand' without stream lines: contributing area from which a cell is a stream. Smaller values give more and shorter streams.",
        unit="km²",
        minimum=1e-6,
    )
    pits: str = param(
        "fill",
        "Pits are",
        "Only for 'hand': what happens where a stream would have to run uphill. 'fill': the ground behind the barrier is raised to its top; best for "
        "models with noise. 'carve': the barrier is cut through; for fine models with bridges and embankments that water passes under. Noise makes "
        "carved streams too low, and so the flood too small.",
        choices=("fill", "carve"),
    )
    largest: int = param(
        100,
        "Largest elevation model",
        "Only for 'hand', which holds the whole elevation model in memory: larger ones are refused. 100 million pixels take 2.6 GB.",
        unit="million px",
        minimum=1,
        maximum=2000,
        advanced=True,
    )
    compression: str = shared.compression()


@dataclass(frozen=True)
class AssessFloodConfig(Config):
    """Settings of `assessflood`."""

    wet_depth: float = param(0.1, "Wet from", "A pixel of a depth raster is flooded from this depth on.", unit="m", minimum=0)
    positive: str = param(
        "", "Flooded classes", "For class rasters: names or numbers of the classes that are water, e.g. 'flood, lake'. Empty: the last one."
    )
    threshold: Optional[float] = param(
        None, "Threshold", "For probability rasters. Empty: the one that the raster was made with, else 0.5.", minimum=0, maximum=1
    )
    map_kind: str = param(
        "auto",
        "The maps hold",
        "'depth' in m, 'extent' (classes or probabilities), or 'auto': fractions are depths, unless the raster says that they are probabilities; whole "
        "numbers are classes.",
        choices=("auto", "depth", "extent"),
    )
    reference_kind: str = param("auto", "The reference holds", "As for the maps.", choices=("auto", "depth", "extent"))
    nodata_is_dry: bool = param(
        False,
        "Nodata is dry",
        "For rasters that leave dry ground out, as hydraulic models write them. Only inside the raster; what lies outside is never compared.",
    )
