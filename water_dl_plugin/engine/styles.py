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


def beside(raster: str) -> str:
    return os.path.splitext(raster)[0] + ".qml"
