"""QGIS styles as sidecar files: a layer opens styled wherever it is opened, also when qgis_process or a script made it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from html import escape

from .classes import MapClass
from .tables import write_bytes

_MARK = "<!-- Water DL -->"
FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "resources", "styles")


def for_classes(raster: str, classes: Sequence[MapClass]) -> None:
    """`NAME.qml` beside a class raster: its classes and no others. (QGIS's default for a colour table lists 256 entries.)"""
    with open(os.path.join(FOLDER, "classes.qml"), encoding="utf-8") as file:
        template = file.read()
    entries = "".join(
        f'<paletteEntry value="{c.value}" label="{escape(c.name)}" color="#{"".join(f"{part:02x}" for part in c.colour)}" alpha="255"/>'
        for c in classes
    )
    if os.path.exists(beside(raster)):
        with open(beside(raster), encoding="utf-8", errors="replace") as file:
            if _MARK not in file.read():
                return  # the style of another layer of that name, or one that the user made
    write_bytes(beside(raster), template.replace("<!-- entries -->", entries).encode("utf-8"))


def for_probability(raster: str) -> None:
    """`NAME.qml` beside a probability raster: 0 to 1 in blues. A style that is there already stays: someone may have made it."""
    if not os.path.exists(beside(raster)):
        shutil.copyfile(os.path.join(FOLDER, "probability.qml"), beside(raster))


def for_heights(raster: str, zfactor: float) -> None:
    """`NAME.qml` beside an elevation model: relief shaded from several sides. `zfactor`: map units that one unit of height is long."""
    _fill(raster, "heights.qml", {"zfactor": f"{zfactor:.6g}"})


def for_expected_error(raster: str, limit: float, unit: str) -> None:
    """`NAME.qml` beside a raster of expected errors: white at 0, brown from `limit` on."""
    limit = float(f"{limit:.2g}") or 1.0
    _fill(raster, "expected_error.qml", {"unit": escape(unit), **{str(k): f"{k / 4 * limit:g}" for k in range(5)}})


def for_height_errors(raster: str, limit: float) -> None:
    """`NAME.qml` beside a raster of height errors: blue where too low, white at 0, red where too high, full from `limit` on."""
    limit = float(f"{limit:.2g}") or 1.0
    shares = (-1, -0.5, -0.2, 0, 0.2, 0.5, 1)
    _fill(raster, "height_errors.qml", {str(k): f"{share * limit:g}" for k, share in enumerate(shares)})


def for_water_depth(raster: str, deepest: float, unit: str) -> None:
    """`NAME.qml` beside a raster of water depths: nothing where dry, darker blue the deeper, down to `deepest`."""
    shares = (0, 0.001, 0.25, 0.5, 0.75, 1)
    _fill(raster, "water_depth.qml", {"unit": escape(unit), **{str(k): f"{share * deepest:.3g}" for k, share in enumerate(shares)}})


def for_above_drainage(raster: str, stage: float, unit: str) -> None:
    """`NAME.qml` beside a raster of heights above the nearest drainage: blue up to `stage`, then green, yellow and brown."""
    shares = (0, 1, 1.5, 3, 6, 12)
    _fill(raster, "above_drainage.qml", {"unit": escape(unit), **{str(k): f"{share * stage:.3g}" for k, share in enumerate(shares)}})


def _fill(raster: str, template: str, values: dict) -> None:
    """A template with its values as the style of a raster, unless someone else made one."""
    if os.path.exists(beside(raster)):
        with open(beside(raster), encoding="utf-8", errors="replace") as file:
            if _MARK not in file.read():
                return
    with open(os.path.join(FOLDER, template), encoding="utf-8") as file:
        text = file.read()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    write_bytes(beside(raster), text.encode("utf-8"))


_BLUES = ((190, 229, 240), (31, 120, 180), (8, 29, 88))  # small, middle and large lakes
_SYMBOL = """<symbol type="fill" name="{place}" alpha="1" clip_to_extent="1" force_rhr="0"><layer class="SimpleFill" pass="0" enabled="1" locked="0">
<Option type="Map"><Option type="QString" name="color" value="{colour},255"/><Option type="QString" name="style" value="solid"/>
<Option type="QString" name="outline_color" value="8,29,88,255"/><Option type="QString" name="outline_style" value="solid"/>
<Option type="QString" name="outline_width" value="0.1"/><Option type="QString" name="outline_width_unit" value="MM"/>
<Option type="QString" name="joinstyle" value="round"/></Option></layer></symbol>"""


def for_lakes(path: str, sizes: Sequence[tuple], changes: bool = False) -> None:
    """A style file at `path` for lake polygons: blues by area with the size classes `(name, from, to)` in km2, or by what changed. A style that
    someone made stays."""
    with open(os.path.join(FOLDER, "lake_changes.qml" if changes else "lakes.qml"), encoding="utf-8") as file:
        text = file.read()
    ranges, symbols = "", ""
    for place, (name, low, high) in enumerate(sizes):
        upper = 1e15 if high is None else high * 1e6
        ranges += f'<range symbol="{place}" lower="{low * 1e6:.15g}" upper="{upper:.15g}" label="{escape(name)}" render="true"/>'
        share = 2 * place / max(len(sizes) - 1, 1)
        a, b = _BLUES[min(int(share), 1) :][:2]
        share -= min(int(share), 1)
        symbols += _SYMBOL.format(place=place, colour=",".join(str(round(p + (q - p) * share)) for p, q in zip(a, b)))
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            if _MARK not in file.read():
                return
    write_bytes(path, text.replace("<!-- ranges -->", ranges).replace("<!-- symbols -->", symbols).encode("utf-8"))


def beside(raster: str) -> str:
    return os.path.splitext(raster)[0] + ".qml"
