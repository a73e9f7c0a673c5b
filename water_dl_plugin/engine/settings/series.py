"""Settings of dated scenes and gauge tables, which several jobs have in common, stated once."""

from __future__ import annotations

from ..config import param

SENSORS = (
    "any", "sentinel-2", "sentinel-1", "landsat-9", "landsat-8", "landsat-7", "landsat-5", "landsat-4", "planetscope",
)  # fmt: skip
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "ft": 0.3048}


def date_pattern():
    return param(
        "",
        "Date pattern",
        "How the date stands in the scenes' names if it is not found by itself: %Y year, %m month, %d day, %j day of the year, %b month as Jan, "
        "%y year of two digits, %H hour, %M minute, %S second; everything else stands for itself. E.g. 'dam_%d%m%Y' finds 31 August 2020 in "
        "dam_31082020_v2.tif. It is looked for in the file name, then in the path with / between folders. Times are UTC.",
        advanced=True,
    )


def sensor():
    return param(
        "any",
        "Sensor",
        "Only scenes of this sensor. Scenes that do not tell their sensor, by name, metadata or bands, are taken to be of it.",
        choices=SENSORS,
    )


def gauge_reservoir():
    return param(
        "",
        "Gauge: column of reservoirs",
        "Column of the gauge table with the reservoir's name. Empty: guessed (reservoir, dam, site, station, name ...). A table of a single "
        "reservoir needs none.",
        advanced=True,
    )


def gauge_date():
    return param(
        "",
        "Gauge: column of dates",
        "Column of the gauge table with the date, with or without the time. Empty: guessed (date, datetime, time ...).",
        advanced=True,
    )


def gauge_level():
    return param(
        "",
        "Gauge: column of levels",
        "Column of the gauge table with the water level. Empty: guessed (level, height, stage, elevation ...).",
        advanced=True,
    )


def gauge_date_format():
    return param(
        "",
        "Gauge: format of dates",
        "How dates are written in the gauge table, e.g. %d/%m/%Y for 31/08/2020, %m/%d/%Y %H:%M for 08/31/2020 07:30. Empty: found out from the "
        "whole column.",
        advanced=True,
    )


def unit():
    return param("m", "Gauge: unit", "Unit of the levels in the gauge table. Results are always in m.", choices=tuple(UNITS))


def time_zone():
    return param(
        "",
        "Gauge: time zone",
        "Of the gauge's dates and times: UTC+2, -03:30, or a name such as Africa/Johannesburg. Empty: UTC. Times in the table that tell their own "
        "offset keep it.",
        advanced=True,
    )


def missing():
    return param(
        "-9999, -999, -99999, NA, N/A, NaN, null, none, nodata, missing, -, --, ---, ***",
        "Gauge: marks of missing levels",
        "Texts and numbers in the column of levels that mean that there is none, separated by commas. Empty cells always do.",
        advanced=True,
    )


def tolerance():
    return param(
        0.0,
        "Tolerance",
        "A scene gets the gauge's nearest reading that is at most so many days away. 0: only one of the same day, in the gauge's time zone. "
        "Where the gauge tells only days, whole days are counted.",
        unit="days",
        minimum=0,
        maximum=366,
    )
