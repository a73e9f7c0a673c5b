"""Raster and model -> class raster and probability raster, in one pass."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from . import bundle
from .backends import OnnxModel
from .classes import NODATA, classify
from .errors import ModelError
from .infer import predict, window_size
from .labels import Area
from .maps import PROBABILITY_NODATA, check_outputs, writers
from .progress import Progress, silent
from .raster import Stack, small_cache
from .settings import InferConfig
from .version import version


@dataclass(frozen=True)
class Mapped:
    """What `map_classes` wrote: pixels per class (by index), pixels without data, the classes and who ran the model."""

    classes: tuple
    pixels: tuple
    nodata: int
    provider: str


def map_classes(
    path: str, model_path: str, output: str, config: InferConfig, *, stack: Sequence[str] = (), area: str = "", probability: str = "",
    progress: Progress = silent
) -> Mapped:  # fmt: skip
    """Classify a raster. `output` (class values as uint8, 255 nodata) and `probability` (float32, -1 nodata; one band for two classes,
    else one per class) are GeoTIFFs; either may be "". Raises `ModelError` when the raster does not fit the model."""
    check_outputs(output, probability, (path, *stack))
    model = OnnxModel(model_path, config.device, config.threads, config.divide_by, config.activation)
    info = model.info
    if info.task != "segmentation":
        raise ModelError(
            f"This is a model for {info.task}, which gives no classes.",
            "Downscale DEM applies it."
            if info.task == "regression"
            else "Classify raster runs models for segmentation; choose the algorithm for this task.",
        )
    threshold = info.threshold if config.threshold is None else config.threshold
    with small_cache(), ExitStack() as files:
        source = files.enter_context(Stack(path, stack, config.bands))
        fits(info, source)
        progress(
            0,
            f"Runs on {model.provider.replace('ExecutionProvider', '')}; windows of {window_size(model, config, source.grid)} px, overlap {config.overlap} px; threshold {threshold:g}.",
        )
        for line in (*doubts(info, source), *source.doubts()):
            progress(0, line)
        limits = Area(area, source.grid) if area else None
        tags = {
            "WATERDL_VERSION": version(), "WATERDL_MODEL": f"{os.path.basename(model_path)} {bundle.file_hash(model_path)}",
            "WATERDL_THRESHOLD": f"{threshold:g}", "WATERDL_SETTINGS": json.dumps(config.to_json()), "WATERDL_SOURCE": os.path.basename(path),
        }  # fmt: skip
        classes, chances = writers(files, source.grid, info.classes, model.channels, output, probability, config.compression, tags)
        values = np.array([c.value for c in info.classes], np.uint8)
        counts, unmapped = np.zeros(len(values), np.int64), 0
        for window, given, holds in predict(source, model, config, progress, limits):
            holds &= np.isfinite(given).all(axis=0)
            _probabilities(given[:, holds])
            guess = classify(given, threshold)
            counts += np.bincount(guess[holds], minlength=len(values))
            unmapped += int((~holds).sum())
            if classes:
                classes.write(window, np.where(holds, values[guess], NODATA).astype(np.uint8)[None])
            if chances:
                chances.write(window, np.where(holds, given, PROBABILITY_NODATA).astype(np.float32))
        progress(1, "Writing overviews.")
    total = max(int(counts.sum()), 1)
    progress(1, "; ".join(f"{c.name} {100 * n / total:.1f} %" for c, n in zip(info.classes, counts)) + f"; {unmapped} pixels without data.")
    return Mapped(info.classes, tuple(map(int, counts)), unmapped, model.provider)


def _probabilities(values: np.ndarray) -> None:
    """Raise `ModelError` for what can't be probabilities: a foreign model whose activation is not in its graph."""
    if values.size and (values.min() < -1e-3 or values.max() > 1 + 1e-3):
        raise ModelError(
            f"The model gives values from {values.min():.3g} to {values.max():.3g}, which are no probabilities.",
            "Set the activation to sigmoid (two classes in one channel) or softmax.",
        )


def fits(info: bundle.ModelInfo, source) -> None:
    """Raise `ModelError` unless the raster has as many bands as the model wants."""
    if len(source.bands) != len(info.bands):
        wanted = ", ".join(f"{name}{f' ({unit})' if unit else ''}" for name, unit in info.bands)
        raise ModelError(
            f"The model wants {len(info.bands)} bands ({wanted}), the raster gives {len(source.bands)}.",
            "Choose the right ones in the bands field, e.g. '1-4'.",
        )


def doubts(info: bundle.ModelInfo, source) -> list[str]:
    """Warnings: other pixel size, other band names than in training."""
    lines = []
    size = source.grid.pixel_size_m
    if size and info.pixel_size_m and not 0.67 < size / info.pixel_size_m < 1.5:
        lines.append(
            f"Warning: the raster's pixels are {size:.3g} m, the model was trained at {info.pixel_size_m:.3g} m. Resample the raster for good results."
        )
    trained = [name for name, _ in info.bands]
    given = [b.name for b in source.bands]
    if info.source == "waterdl" and trained != given and sorted(trained) == sorted(given):
        lines.append(f"Warning: the bands come as {', '.join(given)}; the model was trained with {', '.join(trained)}.")
    if info.source == "none":
        lines.append("Warning: the model file says nothing of its normalisation; pixels are divided by the 'divide by' setting only.")
    return lines
