"""The chips folder: ArcGIS' "Classified Tiles" on disk, and our manifest `chips.json`, which is written last.

A folder with `chips.json` is complete. A folder that ArcGIS made has none; it is read from `map.txt` and Esri's own JSON files.
"""

from __future__ import annotations

import os

import numpy as np

from . import arcgis, manifest
from .config import parse_json
from .errors import ChipsError, ConfigError, RasterError
from .manifest import CHIP_DRIVERS, MANIFEST, REPLACING, SPLITS, Chip, Manifest, with_validation, write_manifest
from .raster import Raster
from .windows import Window

__all__ = ["MANIFEST", "REPLACING", "SPLITS", "Chip", "ChipSet", "Manifest", "read_manifest", "with_validation", "write_manifest"]
LARGEST = 8192  # px; twice the largest tile of exportchips
_REMEDY = "Run exportchips again."


class ChipSet:
    """A chips folder, opened for reading. Raises `ChipsError` when it is empty, half-written or not one."""

    def __init__(self, folder: str):
        self.folder = str(folder)
        self.manifest = read_manifest(self.folder)
        if not self.manifest.chips:
            raise ChipsError(f"The chips folder {folder} holds no chip.", _REMEDY)
        missing = [p for c in self.manifest.chips for p in (c.image, c.label) if p and not os.path.isfile(self.path(p))]
        if missing:
            raise ChipsError(f"The chips folder is incomplete: {len(missing)} file(s) are missing, e.g. {missing[0]}.", _REMEDY)
        codes = self.manifest.codes or tuple(range(1, len(self.manifest.classes) + 1))
        self._lookup = np.zeros(256, np.uint8)
        for index, code in enumerate(codes):
            self._lookup[code] = index + 1

    def path(self, inside: str) -> str:
        return os.path.join(self.folder, *inside.replace("\\", "/").split("/"))

    def split(self, name: str) -> list[Chip]:
        return [c for c in self.manifest.chips if c.split == name]

    def image(self, chip: Chip) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and valid `(bands, rows, cols)`, native dtype. A file with other bands raises `ChipsError`."""
        pixels, valid = self.read(chip.image)
        if len(pixels) != len(self.manifest.bands):
            raise ChipsError(f"{chip.image} has {len(pixels)} bands, the folder's chips have {len(self.manifest.bands)}.", _REMEDY)
        return pixels, valid

    def label(self, chip: Chip) -> np.ndarray:
        """uint8 `(rows, cols)`: class index + 1, 0 where ignored."""
        if not chip.label:
            raise ChipsError(f"The chip {chip.image} has no label file.", _REMEDY)
        pixels, valid = self.read(chip.label)
        return np.where(valid[0], self._lookup[np.clip(pixels[0], 0, 255).astype(np.uint8)], 0).astype(np.uint8)

    def values(self, chip: Chip) -> tuple[np.ndarray, np.ndarray]:
        """float32 and valid, `(rows, cols)`: the numbers to learn, of a task without classes. Raises `ChipsError` for a chip without."""
        if not chip.label:
            raise ChipsError(f"The chip {chip.image} has no label file.", _REMEDY)
        pixels, valid = self.read(chip.label)
        return pixels[0].astype(np.float32), valid[0]

    def read(self, inside: str) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and valid `(bands, rows, cols)` of any file of the folder, e.g. a label raster that holds no classes."""
        try:
            with Raster(self.path(inside), drivers=CHIP_DRIVERS) as raster:
                if max(raster.grid.width, raster.grid.height) > LARGEST:  # told before its memory is taken
                    raise ChipsError(f"The chip {inside} is {raster.grid.width} x {raster.grid.height} px.", _REMEDY)
                return raster.read(Window(0, 0, raster.grid.width, raster.grid.height))
        except RasterError as error:
            raise ChipsError(f"The chip {inside} can't be read: {error.message}", _REMEDY) from None


def read_manifest(folder: str) -> Manifest:
    """The manifest of a chips folder, of our own or of ArcGIS. Raises `ChipsError`."""
    if not os.path.isdir(folder):
        raise ChipsError(f"There is no chips folder {folder}.", "Check the path, or run exportchips first.")
    path = os.path.join(folder, MANIFEST)
    if os.path.exists(path + REPLACING):
        raise ChipsError(f"The chips folder {folder} is half-written: a new export into it was interrupted.", _REMEDY)
    if not os.path.exists(path):
        if os.path.exists(os.path.join(folder, "map.txt")):
            return arcgis.read(folder)
        if os.path.isdir(os.path.join(folder, "images")):
            raise ChipsError(f"The chips folder {folder} is half-written: its list of chips is missing.", _REMEDY)
        raise ChipsError(f"{folder} is not a chips folder.", "Choose the folder that exportchips wrote: it holds chips.json.")
    try:
        with open(path, encoding="utf-8") as file:
            return manifest.parse(parse_json(file.read(), MANIFEST, limit=500_000_000))
    except ConfigError as error:
        raise ChipsError(error.message, _REMEDY) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise ChipsError(f"{path} can't be understood ({type(error).__name__}: {str(error)[:120]}).", _REMEDY) from None
