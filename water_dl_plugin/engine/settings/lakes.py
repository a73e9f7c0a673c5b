"""Settings of `lakestatistics`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config, param


@dataclass(frozen=True)
class LakesConfig(Config):
    """Settings of `lakestatistics`."""

    size_limits: str = param(
        "0.001, 0.01, 0.1, 1, 10",
        "Limits of the size classes",
        "Areas in rising order, separated by commas. A lake belongs to the class that begins with its area.",
        unit="km²",
    )
    band_height: float = param(500.0, "Height of an elevation band", "Bands begin at multiples of it.", unit="m", minimum=1)
    elevation_field: str = param(
        "",
        "Elevation field",
        "Field of the lakes with their elevation in m. Empty: the elevation model if one is given, else the field 'elevation_m' if there is one.",
        of_input="INPUT",
    )
    minimum_area: float = param(
        0.0,
        "Minimum area",
        "Smaller lakes are not counted, neither in the map nor in the inventory, but they still cover others: a lake that is just above it in one "
        "layer and just below in the other is no mistake.",
        unit="m²",
        minimum=0,
    )
    found_share: float = param(
        50.0,
        "Found from",
        "A lake of the inventory is found when the lakes of the map cover at least this share of its area; else it is missed.",
        unit="%",
        minimum=1,
        maximum=100,
    )
    false_share: float = param(
        50.0,
        "False below",
        "A lake of the map is false when less than this share of its area lies on lakes of the inventory. With the same share as above, recall "
        "and precision mean the same in both directions.",
        unit="%",
        minimum=1,
        maximum=100,
    )
    piece_share: float = param(
        10.0,
        "Piece from",
        "A found lake is split when two or more lakes of the map each cover at least this share of it.",
        unit="%",
        minimum=1,
        maximum=50,
        advanced=True,
    )
    whole_share: float = param(
        90.0,
        "Whole from",
        "A lake is found whole when one lake of the map covers at least this share of it, covers no other one, and is not false.",
        unit="%",
        minimum=1,
        maximum=100,
        advanced=True,
    )
    parts: bool = param(
        False,
        "Each part is a lake",
        "For layers in which many lakes are one multipart feature: their parts are counted, in the map and in the inventory.",
        advanced=True,
    )
