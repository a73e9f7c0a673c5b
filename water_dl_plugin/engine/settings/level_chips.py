"""Settings of `exportlevelchips`, and those of reservoirs and quality bands, which it shares with `estimatelevel`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config, param
from . import series

#: Kinds of quality bands; see `level.quality`.
QUALITY = ("auto", "none", "QA60", "SCL", "QA_PIXEL", "UDM", "UDM2", "mask")


def name_field():
    return param(
        "",
        "Name field",
        "Field of the reservoirs with their names, as the gauge table has them; case, accents and blanks don't matter. Polygons of one name are one "
        "reservoir. Empty: they are called 1, 2, ...; a single one needs no name.",
        of_input="RESERVOIRS",
    )


def datum_field():
    return param(
        "",
        "Datum field",
        "Field of the reservoirs with the level that depths count from, in m on the gauge's scale, e.g. that of the lowest outlet. Networks learn depths, so that "
        "several reservoirs can teach one. Empty: the lowest level of the series.",
        of_input="RESERVOIRS",
    )


def quality():
    return param(
        "auto",
        "Quality band",
        "What tells cloud and shadow: QA60 or SCL (Sentinel-2), QA_PIXEL (Landsat, Collection 2), UDM or UDM2 (Planet), 'mask' (a raster that is not 0 where "
        "something hides the ground). 'auto': a band of such a name in the scene, or a file of such a name beside it. With a kind named here, the last band of a "
        "scene whose bands have no names is it if BANDS leaves it out. 'none': nothing is hidden, as with radar.",
        choices=QUALITY,
    )


@dataclass(frozen=True)
class LevelChipsConfig(Config):
    """Settings of `exportlevelchips`."""

    name_field: str = name_field()
    datum_field: str = datum_field()
    sensor: str = series.sensor()
    tolerance: float = series.tolerance()
    unit: str = series.unit()
    bands: str = param("", "Bands", "Bands to keep, by number or name: '1-3', 'B3,B4,B8', 'VV,VH'. Empty: all but quality bands.")
    quality: str = quality()
    max_cloud: float = param(
        20.0,
        "Most cloud",
        "Dates on which cloud and shadow hide more of the reservoir's polygon are left out. Hidden pixels of the others become nodata.",
        unit="%",
        minimum=0,
        maximum=100,
    )
    min_cover: float = param(
        95.0,
        "Least cover",
        "Dates on which the scene holds data for less of the reservoir's polygon (its edge, gaps, nodata; clouds don't count) are left out.",
        unit="%",
        minimum=1,
        maximum=100,
        advanced=True,
    )
    split: str = param(
        "blocked",
        "Split by",
        "How dates are set apart for validation and test. 'blocked': blocks of whole months, the same for all reservoirs; neighbouring dates are alike, and apart "
        "they would tell the network what it is asked. 'random': of each reservoir and each quarter of its levels the same share by chance, as published; figures "
        "are then too good. 'chronological': of each reservoir the first dates train, the last ones test: harder, as levels may leave the range that was learnt.",
        choices=("blocked", "random", "chronological"),
    )
    validation_share: float = param(
        0.2,
        "Share for validation",
        "Share of the dates that are held out of training: they tell how wide the interval of an estimate must be.",
        minimum=0,
        maximum=0.9,
    )
    test_share: float = param(
        0.0, "Share for test", "Share of the dates that are neither trained nor validated with.", minimum=0, maximum=0.9
    )
    repeats: int = param(
        1,
        "Drawings",
        "How often the dates for validation are drawn anew; each network of the model takes a drawing of its own. The first ones share no date: with 5 drawings of a "
        "share of 0.2 each date is held out once, and the interval rests on all of them. Not with the split 'chronological'.",
        minimum=1,
        maximum=100,
        advanced=True,
    )
    block_months: int = param(
        3,
        "Block of months",
        "Length of the blocks of the split 'blocked'; shorter for a series of few of them.",
        unit="months",
        minimum=1,
        maximum=24,
        advanced=True,
    )
    buffer: float = param(
        50.0, "Around the reservoir", "What a chip shows beyond the polygon, at least.", unit="m", minimum=0, maximum=100_000, advanced=True
    )
    tile_size: int = param(
        0,
        "Tile size",
        "Width and height of a chip. 0: the smallest multiple of 16 that holds the largest reservoir, at most 96; larger reservoirs get coarser pixels.",
        unit="px",
        minimum=0,
        maximum=1024,
        advanced=True,
    )
    resolution: float = param(
        0.0,
        "Pixel size of the chips",
        "A whole multiple of the scenes' pixels; their mean is taken. All chips have the same. 0: the scenes' own, or the next coarser one with which the largest "
        "reservoir fits the tile.",
        unit="m",
        minimum=0,
        maximum=100_000,
        advanced=True,
    )
    date_pattern: str = series.date_pattern()
    gauge_reservoir: str = series.gauge_reservoir()
    gauge_date: str = series.gauge_date()
    gauge_level: str = series.gauge_level()
    gauge_date_format: str = series.gauge_date_format()
    time_zone: str = series.time_zone()
    missing: str = series.missing()
    seed: int = param(0, "Seed", "Same seed, same split.", minimum=0, maximum=2**31 - 1, advanced=True)
