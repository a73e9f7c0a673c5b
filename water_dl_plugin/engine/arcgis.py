"""ArcGIS' side of a chips folder: map.txt, stats.txt, esri_accumulated_stats.json, esri_model_definition.emd."""

from __future__ import annotations

import json
import os
from typing import Any, Optional

import numpy as np

from . import classes as map_classes
from .classes import MapClass
from .config import parse_json
from .errors import ChipsError, ConfigError, RasterError
from .manifest import CHIP_DRIVERS, Chip, Manifest
from .raster import Raster
from .tables import write_bytes


def write(folder: str, manifest: Manifest, counts: np.ndarray) -> None:
    """Write the four files. `counts` `(chips, classes)`: labelled pixels of each class in each chip."""
    size, bands, n = manifest.tile_size, len(manifest.bands), len(manifest.chips)
    lines = [f"{c.image.replace('/', chr(92))}  {c.label.replace('/', chr(92))} " for c in manifest.chips]
    _text(folder, "map.txt", "\n".join(lines) + "\n")
    present = counts > 0
    per_image = present.sum(axis=1)
    rows = [f"images = {n} *{bands}*{size}*{size}", f"classes = {len(manifest.classes)}",
            f"classes per image = [min = {per_image.min()}, mean = {per_image.mean():.2f}, max = {per_image.max()}]",
            "cls name              cls value     images   pixels      min size   mean size    max size"]  # fmt: skip
    for k, c in enumerate(manifest.classes):
        sizes = counts[present[:, k], k]
        low, mean, high = (sizes.min(), sizes.mean(), sizes.max()) if len(sizes) else (0, 0, 0)
        rows.append(f"{c.name:<22}{k + 1:>9}{present[:, k].sum():>11}{counts[:, k].sum():>11}{low:>13.2f}{mean:>12.2f}{high:>12.2f}")
    _text(folder, "stats.txt", "\n".join(rows) + "\n")

    def five(values) -> dict:
        values = np.asarray(values)
        if not len(values):
            return {"Min": 0, "Max": 0, "Mean": 0.0, "Sum": 0, "Count": 0}
        return {
            "Min": int(values.min()),
            "Max": int(values.max()),
            "Mean": float(values.mean()),
            "Sum": int(values.sum()),
            "Count": len(values),
        }

    accumulated = {
        "Version": 1, "NumBands": bands, "TileSizeX": size, "TileSizeY": size, "NumClasses": len(manifest.classes), "NumTiles": n,
        "OutputFeatures": False, "MetaDataMode": "Classified_Tiles",
        "Classes": [{"ClassValue": k + 1, "ClassName": c.name} for k, c in enumerate(manifest.classes)],
        "ClassPixelStats": {
            "NumClasses": len(manifest.classes), "NumImagesTotal": n, "NumImagesPerClass": [int(x) for x in present.sum(axis=0)],
            "NumPixelsPerClass": [int(x) for x in counts.sum(axis=0)], "NumClassesPerImage": five(per_image),
            "PixelsPerClass": [five(counts[present[:, k], k]) for k in range(len(manifest.classes))],
        },
    }  # fmt: skip
    _text(folder, "esri_accumulated_stats.json", json.dumps(accumulated, indent=1))
    cell = {
        "x": manifest.pixel_size[0],
        "y": manifest.pixel_size[1],
        "spatialReference": {"wkid": _epsg(manifest), "latestWkid": _epsg(manifest)},
    }
    definition = {
        "Framework": "", "ModelConfiguration": "", "ModelFile": "", "ModelType": "ImageClassification",
        "ImageHeight": size, "ImageWidth": size, "MetaDataMode": "Classified_Tiles", "ImageSpaceUsed": "MAP_SPACE", "CropTileMode": "Fixed size",
        "ExtractBands": list(range(bands)), "MinCellSize": cell, "MaxCellSize": cell,
        "InputRastersProps": {"RasterCount": 1, "SensorName": "", "BandNames": [b["name"] for b in manifest.bands]},
        "AllTilesStats": [{"BandName": b["name"], "Min": s["min"], "Max": s["max"], "Mean": s["mean"], "StdDev": s["std"]} for b, s in zip(manifest.bands, manifest.statistics)],
        "Classes": [{"Value": k + 1, "Name": c.name, "Color": list(c.colour)} for k, c in enumerate(manifest.classes)],
    }  # fmt: skip
    _text(folder, "esri_model_definition.emd", json.dumps(definition, indent=1))


def _text(folder: str, name: str, text: str) -> None:
    write_bytes(os.path.join(folder, name), text.encode())


def _epsg(manifest: Manifest) -> int:
    code = manifest.sources[0].get("epsg") if manifest.sources else None
    return int(code or 0)


def read(folder: str) -> Manifest:
    """A manifest of a folder that ArcGIS wrote. Raises `ChipsError` for one that is empty or incomplete."""
    pairs = []
    with open(os.path.join(folder, "map.txt"), encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.replace("\\", "/").split()
            if len(words) >= 2:
                pairs.append((words[0], words[1]))
    if not pairs:
        raise ChipsError(f"The chips folder {folder} is empty: its map.txt lists no chip.", "Export it again.")
    if any(".." in p.split("/") or os.path.isabs(p) or ":" in p for pair in pairs for p in pair):
        raise ChipsError("map.txt names a file outside the chips folder.", "Export the chips again.")
    definition, accumulated = _json(folder, "esri_model_definition.emd"), _json(folder, "esri_accumulated_stats.json")
    try:
        listed = [(int(c["Value"]), str(c["Name"]), c.get("Color")) for c in definition.get("Classes", [])]
        listed = listed or [(int(c["ClassValue"]), str(c["ClassName"]), None) for c in accumulated.get("Classes", [])]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ChipsError(f"The classes of the ArcGIS chips can't be read ({error}).", "Export them again.") from None
    try:
        classes, codes = _ordered(listed)
        classes = map_classes.from_json([c.to_json() for c in classes]) if classes else ()
    except (TypeError, ValueError) as error:
        raise ChipsError(f"The classes of the ArcGIS chips can't be used ({str(error)[:120]}).", "Export them again.") from None
    if len(classes) == 1:  # ArcGIS lists labelled classes only; 0 is then everything else, and that is background
        raise ChipsError(
            f"The ArcGIS chips have one class only ({classes[0].name}).",
            "Export them with a class for the background, or from the labels with exportchips.",
        )
    if not classes:
        raise ChipsError(
            f"{folder} does not say which classes its labels have.", "esri_model_definition.emd or esri_accumulated_stats.json is missing."
        )
    first = os.path.join(folder, *pairs[0][0].split("/"))
    if not os.path.exists(first):
        raise ChipsError(f"The chips folder is incomplete: {pairs[0][0]} is missing.", "Copy or export it again.")
    try:
        with Raster(first, drivers=CHIP_DRIVERS) as raster:
            bands, grid = [{"name": b.name, "unit": b.unit, "dtype": b.dtype} for b in raster.bands], raster.grid
    except RasterError as error:
        raise ChipsError(f"The chip {pairs[0][0]} can't be read: {error.message}", "Copy or export it again.") from None
    properties = definition.get("InputRastersProps")
    named = properties.get("BandNames") if isinstance(properties, dict) else None
    if isinstance(named, list) and len(named) == len(bands):
        bands = [{**band, "name": str(name)[:200]} for band, name in zip(bands, named)]
    return Manifest(
        task="segmentation", bands=tuple(bands), classes=classes, codes=codes, tile_size=grid.width,
        chips=tuple(Chip(image, label) for image, label in pairs), pixel_size=grid.pixel_size,
        pixel_size_m=grid.pixel_size_m, image_format=os.path.splitext(first)[1][1:].upper(),
    )  # fmt: skip


def _json(folder: str, name: str) -> Any:
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            data = parse_json(file.read(), name)
    except (ConfigError, UnicodeDecodeError) as error:
        raise ChipsError(f"{name} can't be read: {error}", "Export the chips again.") from None
    return data if isinstance(data, dict) else {}


def _ordered(pairs: list[tuple[int, str, Optional[tuple]]]) -> tuple[tuple[MapClass, ...], tuple[int, ...]]:
    """Classes and label codes out of (value, name, colour) as ArcGIS lists them; 0 is left out, it means unlabelled there."""
    kept = sorted({v: (v, n, c) for v, n, c in pairs if 0 < v < 255}.values())
    return tuple(MapClass(v, n, tuple(c) if c else map_classes.colour_of(n, i)) for i, (v, n, c) in enumerate(kept)), tuple(
        v for v, _, _ in kept
    )
