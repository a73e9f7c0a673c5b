"""Settings of `vectorizewater`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..config import Config, param


@dataclass(frozen=True)
class VectorizeConfig(Config):
    """Settings of `vectorizewater`."""

    positive: str = param(
        "",
        "Classes of interest",
        "Names or numbers of the classes whose areas become polygons, e.g. 'lake, river'; each class apart. Empty: the last one (water).",
    )
    threshold: Optional[float] = param(
        None, "Threshold", "For a probability raster. Empty: the one that the raster was made with, else 0.5.", minimum=0, maximum=1
    )
    connectivity: str = param(
        "8",
        "Pixels hang together by",
        "'8': sides and corners, so that a river one pixel wide is one feature; '4': sides only.",
        choices=("8", "4"),
    )
    min_area: float = param(0.0, "Minimum area", "Smaller polygons are left out. On the ellipsoid.", unit="m²", minimum=0)
    min_hole: float = param(
        0.0,
        "Minimum area of islands",
        "Smaller holes are filled, unless a polygon lies in them. Filled pixels do not count in the means of probability and elevation.",
        unit="m²",
        minimum=0,
    )
    smoothing: float = param(
        0.5,
        "Smoothing",
        "How far the outline may leave the sides of the pixels, up to half a pixel. Each polygon keeps its area within 1 %, and outlines never "
        "cross. 0: the outline follows the pixels.",
        unit="px",
        minimum=0,
        maximum=0.5,
    )
    size_limits: str = param(
        "0.001, 0.01, 0.1, 1, 10", "Limits of the size classes", "Areas in rising order, separated by commas.", unit="km²"
    )
    band_height: float = param(
        500.0, "Height of an elevation band", "Bands begin at multiples of it. Only with an elevation model.", unit="m", minimum=1
    )
    same_within: float = param(
        5.0,
        "Same within",
        "Only with earlier polygons: a lake whose area changed by no more than this is the same.",
        unit="%",
        minimum=0,
        maximum=100,
    )
    outline_noise: float = param(
        0.25,
        "Noise of outlines",
        "Only with earlier polygons: a change that a shift of the whole outline by this distance would make is none either. The outline of a "
        "pixel map is hardly known better, and for small lakes that is many per cent.",
        unit="px",
        minimum=0,
        maximum=100,
    )
    least_overlap: float = param(
        10.0,
        "Least overlap",
        "Only with earlier polygons: two polygons are the same water from this overlap on, as a share of the smaller one.",
        unit="%",
        minimum=0,
        maximum=100,
        advanced=True,
    )
    simplify: float = param(
        0.05,
        "Simplify smoothed outlines",
        "Points are left out where the outline stays within this distance. 0: one point per side of a pixel.",
        unit="px",
        minimum=0,
        maximum=0.5,
        advanced=True,
    )
    classes: str = param(
        "",
        "Classes of the map",
        "Only if the raster names none: 'land=0, water=1' (for a probability raster 'land, water').",
        advanced=True,
    )
