"""The model file: one `.onnx` whose metadata says what the model wants and gives. Nothing in it is ever unpickled.

`metadata_props` hold the keys that the Deepness plugin and GeoDeep read, so that our classifiers run there, and one key `waterdl`,
a JSON object with a schema version, which is `ModelInfo` here. A file may come from a stranger: every value is checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional

from . import classes as map_classes
from . import strict
from .classes import MapClass
from .config import parse_json
from .errors import ConfigError, ModelError, OutputError
from .normalise import Normalisation
from .tables import write_bytes

SCHEMA = 1
KEY = "waterdl"
_REMEDY = "Get the file again from its maker, or train a new model with trainmodel."


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself.

    `bands` are (name, unit) in input order; `classes` those of the map (empty for tasks without); `pixel_size_m` None if unknown;
    `chip_size`, `margin`, in px; `multiple`: window sizes must be a multiple of it; `nodata`: a pixel is mapped unless 'any' or 'all' of its
    bands are nodata, or the 'base' (band 0) is; `details`: what the task alone needs to know; `training`: a summary for people; `source`:
    which metadata it was read from ("waterdl", "deepness" or "none").
    """

    task: str
    bands: tuple
    normalisation: Normalisation
    classes: tuple = ()
    architecture: str = ""
    arguments: dict = field(default_factory=dict)
    pixel_size_m: Optional[float] = None
    chip_size: int = 256
    margin: int = 0
    multiple: int = 1
    nodata: str = "any"
    threshold: float = 0.5
    training: dict = field(default_factory=dict)
    licence: str = ""
    card: str = ""
    source: str = "waterdl"
    details: dict = field(default_factory=dict)

    def to_json(self) -> dict:
        return {
            "schema": SCHEMA, "task": self.task, "architecture": {"name": self.architecture, "arguments": self.arguments},
            "bands": [{"name": name, "unit": unit} for name, unit in self.bands], "normalisation": self.normalisation.to_json(),
            "classes": [c.to_json() for c in self.classes], "pixel_size_m": self.pixel_size_m, "chip_size": self.chip_size,
            "margin": self.margin, "multiple": self.multiple, "nodata": self.nodata, "threshold": self.threshold,
            "details": self.details, "training": self.training, "licence": self.licence, "card": self.card,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Any) -> ModelInfo:
        """Out of the parsed `waterdl` key. Raises `ModelError` for anything that is not as it should be."""
        try:
            if not isinstance(data, dict):
                raise ValueError("not an object")
            if data.get("schema") != SCHEMA:
                raise ModelError(
                    f"The model file's schema is {str(data.get('schema'))[:20]}, this version of Water DL reads {SCHEMA}.",
                    "Update Water DL.",
                )
            bands = data["bands"]
            if not isinstance(bands, list) or not 1 <= len(bands) <= 1000:
                raise ValueError("bands")
            listed = tuple((strict.text(b["name"], 200), strict.text(b.get("unit", ""), 200)) for b in bands)
            design = data.get("architecture", {})
            classes = map_classes.from_json(data["classes"]) if data.get("classes") else ()
            for item in classes:
                strict.text(item.name, 200)
            return cls(
                task=strict.text(data["task"], 40), bands=listed, normalisation=Normalisation.from_json(data["normalisation"], len(listed)),
                classes=classes,
                architecture=strict.text(design.get("name", ""), 60), arguments=strict.mapping(design.get("arguments", {})),
                pixel_size_m=None if data.get("pixel_size_m") is None else strict.number(data["pixel_size_m"], 1e-6, 1e7),
                chip_size=strict.whole(data.get("chip_size", 256), 1, 8192), margin=strict.whole(data.get("margin", 0), 0, 2048),
                multiple=strict.whole(data.get("multiple", 1), 1, 1024), nodata=strict.one_of(data.get("nodata", "any"), ("any", "all", "base")),
                threshold=strict.number(data.get("threshold", 0.5), 0, 1), details=strict.mapping(data.get("details", {})), training=strict.mapping(data.get("training", {})),
                licence=strict.text(data.get("licence", ""), 2000), card=strict.text(data.get("card", ""), 200_000),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            raise ModelError(
                f"The model file's metadata can't be understood ({type(error).__name__}: {str(error)[:120]}).", _REMEDY
            ) from None


def metadata(info: ModelInfo) -> dict[str, str]:
    """All `metadata_props` of a model file: ours and those that Deepness reads (each value is a JSON text)."""
    props = {KEY: json.dumps(info.to_json(), allow_nan=False)}
    if info.task != "segmentation":
        return props  # Deepness truncates regressions to uint8: nothing is promised there
    low_high = [(b.get("low", 0.0), b.get("high", 1.0)) for b in info.normalisation.bands]
    if info.normalisation.in_graph or info.normalisation.scheme == "none":
        low_high = [(0.0, 1.0)] * len(low_high)  # the graph takes raw pixels; Deepness' own division by 255 is undone
    deepness = {
        "model_type": "Segmentor",
        "class_names": {str(i): c.name for i, c in enumerate(info.classes)},
        "resolution": 100 * info.pixel_size_m if info.pixel_size_m else 1000,
        "tile_size": info.chip_size, "tiles_size": info.chip_size, "tiles_overlap": 25,
        "standardization_mean": [low / 255 for low, _ in low_high],
        "standardization_std": [(high - low) / 255 for low, high in low_high],
        "seg_thresh": max(info.threshold, 0.01) if len(info.classes) == 2 else 0.0,  # more classes: the most probable, as here
        "seg_small_segment": 0,
    }  # fmt: skip
    return {**props, **{key: json.dumps(value) for key, value in deepness.items()}}


def describe(props: dict[str, str], bands: int, channels: int, tile: Optional[int], divide_by: float = 1.0) -> ModelInfo:
    """`ModelInfo` of any ONNX model: from our key, else from Deepness' keys, else from its graph and `divide_by`.

    `bands` and `channels` are those of the graph's input and output, `tile` its fixed window size in px or None.
    """
    if KEY in props:
        try:
            info = ModelInfo.from_json(parse_json(props[KEY], "The model file's metadata"))
        except ConfigError as error:
            raise ModelError(error.message, _REMEDY) from None
        if len(info.bands) != bands:
            raise ModelError(f"The model file names {len(info.bands)} bands, its network takes {bands}.", _REMEDY)
        if info.task == "segmentation" and len(info.classes) != max(channels, 2):
            raise ModelError(f"The model file names {len(info.classes)} classes, its network gives {channels} channel(s).", _REMEDY)
        return info if tile is None else replace(info, chip_size=tile)
    return _foreign(props, bands, channels, tile, divide_by)


def _foreign(props: dict[str, str], bands: int, channels: int, tile: Optional[int], divide_by: float) -> ModelInfo:
    try:
        keys = {k: parse_json(v, f"The model file's {k}") for k, v in props.items() if k in ("model_type", "class_names", "resolution", "tile_size", "tiles_size", "standardization_mean", "standardization_std", "seg_thresh")}  # fmt: skip
        if keys.get("model_type", "Segmentor") != "Segmentor":
            raise ModelError(f"This is a {str(keys['model_type'])[:30]} model.", "classifyraster runs segmentation models.")
        scaled = {"fill": 0.0, "low": 0.0, "high": float(divide_by)}
        numbers = [dict(scaled) for _ in range(bands)]
        mean, std = keys.get("standardization_mean"), keys.get("standardization_std")
        if mean is not None and std is not None:
            if len(mean) != bands or len(std) != bands:
                raise ValueError(f"{len(mean)} means for {bands} bands")
            numbers = [{"fill": 255.0 * m, "low": 255.0 * m, "high": 255.0 * (m + s)} for m, s in zip(mean, std)]
        elif keys and divide_by == 1.0:
            numbers = [{"fill": 0.0, "low": 0.0, "high": 255.0} for _ in range(bands)]
        names = keys.get("class_names") or {}
        names = names[0] if isinstance(names, list) and names else names
        count = max(channels, 2)
        if count > map_classes.NODATA:
            raise ModelError(f"The model gives {count} classes, {map_classes.NODATA} are possible.", "Choose another model.")
        listed = [strict.text(str(names.get(str(i), f"class {i}"))[:200], 200) for i in range(count)]
        resolution = keys.get("resolution")
        return ModelInfo(
            task="segmentation", bands=tuple((f"Band {i + 1}", "") for i in range(bands)),
            normalisation=Normalisation.from_json({"scheme": "zscore", "bands": numbers}, bands),
            classes=tuple(MapClass(i, n, map_classes.colour_of(n, i)) for i, n in enumerate(listed)),
            pixel_size_m=strict.number(resolution, 1e-4, 1e9) / 100 if resolution else None,
            chip_size=tile or strict.whole(keys.get("tile_size", keys.get("tiles_size", 512)), 1, 8192),
            threshold=strict.number(keys.get("seg_thresh", 0.5), 0, 1) or 0.5, source="deepness" if keys else "none",
        )  # fmt: skip
    except ConfigError as error:
        raise ModelError(error.message, _REMEDY) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"The model file's Deepness metadata can't be understood ({str(error)[:120]}).", _REMEDY) from None


def save(path: str, graph: bytes, info: ModelInfo, check: Optional[Callable[[str], None]] = None) -> None:
    """Write a model file: an ONNX graph and its metadata. Needs the `onnx` package. `check(path)` sees the file before it gets its name."""
    import onnx

    model = onnx.load_model_from_string(graph)
    onnx.helper.set_model_props(model, metadata(info))
    partial = f"{path}.partial"
    try:
        write_bytes(partial, model.SerializeToString())
        if check is not None:
            check(partial)
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}.", "Choose another file name.") from None
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def file_hash(path: str) -> str:
    """First 16 hex digits of a file's sha256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()[:16]


def weights_beside(path: str) -> str:
    """Where the weights to go on training from lie: `NAME.safetensors` beside `NAME.onnx`."""
    return os.path.splitext(path)[0] + ".safetensors"


def finite(value: float) -> Optional[float]:
    """A number for JSON: None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None
