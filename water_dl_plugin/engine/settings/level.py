"""Settings of `estimatelevel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..config import Config, param
from . import level_chips, series, shared
from .inference import DEVICES


@dataclass(frozen=True)
class EstimateLevelConfig(Config):
    """Settings of `estimatelevel`."""

    name_field: str = level_chips.name_field()
    datum_field: str = level_chips.datum_field()
    sensor: str = series.sensor()
    date_pattern: str = series.date_pattern()
    bands: str = param(
        "",
        "Bands",
        "The scenes' bands in the model's order: '1-3', 'B3,B4,B8'. Empty: those that are named like the model's, else all but quality bands.",
        advanced=True,
    )
    quality: str = level_chips.quality()
    max_cloud: float = param(
        20.0,
        "Most cloud",
        "Levels from scenes that hide more of the reservoir by cloud and shadow are flagged and not joined with others. Take what the model was trained with.",
        unit="%",
        minimum=0,
        maximum=100,
    )
    min_cover: float = param(
        95.0,
        "Least cover",
        "Levels from scenes that cover less of the reservoir are flagged and not joined with others.",
        unit="%",
        minimum=1,
        maximum=100,
        advanced=True,
    )
    coverage: float = param(
        90.0,
        "Interval",
        "Share of the true levels that the interval is to hold. 90 % can be told from 9 held-out dates on, 95 % from 19.",
        unit="%",
        minimum=50,
        maximum=99.5,
    )
    water_class: str = param(
        "",
        "Water class",
        "Of the water rasters: name or number of the class that is water; several with commas. Empty: the class that is called water, else the last named "
        "one; in rasters without names 1.",
    )
    threshold: Optional[float] = param(
        None,
        "Water from probability",
        "Of water rasters that hold probabilities. Empty: the threshold that the raster was made with, else 0.5.",
        minimum=0,
        maximum=1,
        advanced=True,
    )
    buffer: float = param(
        30.0,
        "Around the reservoir",
        "Water is counted up to so far outside the polygon, which is seldom drawn to the pixel. Other water within that distance is counted, too.",
        unit="m",
        minimum=0,
        maximum=10_000,
        advanced=True,
    )
    max_hidden: float = param(
        50.0,
        "Most hidden",
        "Share of the reservoir that may be hidden in a water raster (cloud, nodata, outside); what is hidden is filled in by how often water was seen "
        "there on other dates. Dates with more are left out.",
        unit="%",
        minimum=0,
        maximum=100,
        advanced=True,
    )
    together: float = param(
        0.5,
        "Joined within",
        "Levels of the model, of the water area and of the shoreline are joined (method 'combined') if they are at most so far apart in time.",
        unit="days",
        minimum=0,
        maximum=30,
        advanced=True,
    )
    tolerance: float = series.tolerance()
    unit: str = series.unit()
    gauge_reservoir: str = series.gauge_reservoir()
    gauge_date: str = series.gauge_date()
    gauge_level: str = series.gauge_level()
    gauge_date_format: str = series.gauge_date_format()
    time_zone: str = series.time_zone()
    missing: str = series.missing()
    device: str = param("auto", "Device", "'auto' takes a CUDA GPU when ONNX Runtime can use one.", choices=DEVICES, advanced=True)
    threads: int = shared.threads()
