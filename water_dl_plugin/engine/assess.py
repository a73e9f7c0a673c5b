"""Truth against a map: everything that tells how far to trust a class or probability raster. Read in blocks, never as a whole."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from . import classes as map_classes
from . import metrics
from .classes import MapClass
from .config import parse_json
from .errors import ConfigError, GridMismatchError, LabelError
from .labels import Area, Shapes, VectorLabels, open_labels
from .mapping import CLASSES_KEY
from .progress import Progress, silent
from .raster import Raster, writable
from .report_pages import assessment_report
from .settings import AssessConfig
from .tables import write_csv, write_json
from .windows import blocks

BLOCK = 1024
MANY_UNITS = 20_000


@dataclass
class Assessment:
    """The figures. `matrix` `(classes, classes)` [truth, map]; `areas_m2` per class (truth, map) of the assessed pixels; `mapped_area_m2`
    per class of the whole map; `curve` and `best_threshold` for probabilities only."""

    classes: tuple
    positive: int
    matrix: np.ndarray
    scores: dict
    detection: dict
    areas_m2: list
    mapped_area_m2: list
    intervals: Optional[dict] = None
    curve: Optional[metrics.ProbabilityCurve] = None
    best_threshold: Optional[tuple] = None
    threshold: Optional[float] = None
    unmapped: int = 0
    facts: list = field(default_factory=list)

    def numbers(self) -> dict:
        """The figures that a model or a shell may want, by the names of the outputs; None where undefined."""
        s, k = self.scores, self.positive
        best = self.best_threshold[0] if self.best_threshold else None
        found = {
            "IOU": s["iou"][k], "F1": s["f1"][k], "RECALL": s["recall"][k], "PRECISION": s["precision"][k], "MEAN_IOU": s["mean_iou"],
            "ACCURACY": s["accuracy"], "KAPPA": s["kappa"], "MCC": s["mcc"], "BEST_THRESHOLD": best,
        }  # fmt: skip
        return {name: None if value is None or math.isnan(value) else float(value) for name, value in found.items()}

    def lines(self) -> list[str]:
        """The figures in words, for the log."""
        s = self.scores
        rows = [
            f"{c.name}: IoU {percent(s['iou'][i])}, F1 {percent(s['f1'][i])}, recall {percent(s['recall'][i])}, precision {percent(s['precision'][i])}"
            for i, c in enumerate(self.classes)
        ]
        rows.append(f"Accuracy {percent(s['accuracy'])}, kappa {s['kappa']:.4f}, MCC {s['mcc']:.4f}")
        if self.best_threshold:
            rows.append(f"Best threshold on these labels: {self.best_threshold[0]:.3f} (IoU {percent(self.best_threshold[1])})")
        return rows

    def to_json(self) -> dict:
        result: dict[str, Any] = {
            "classes": [c.name for c in self.classes], "class_of_interest": self.classes[self.positive].name, **{k: v for k, v in self.scores.items()},
            "detection": self.detection, "confusion_matrix": self.matrix.tolist(), "areas_m2": {"truth": [a for a, _ in self.areas_m2], "map": [b for _, b in self.areas_m2]},
            "mapped_area_m2": self.mapped_area_m2, "truth_without_map_pixels": self.unmapped,
        }  # fmt: skip
        if self.intervals:
            result["intervals"] = self.intervals
        if self.curve is not None:
            result.update(
                threshold=self.threshold,
                best_threshold=self.best_threshold[0],
                best_threshold_iou=self.best_threshold[1],
                average_precision=self.curve.average_precision(),
            )
        return result


def assess(
    path: str, truth: str, config: AssessConfig, *, area: str = "", report: str = "", csv: str = "", json_path: str = "", progress: Progress = silent, title: str = "",
) -> Assessment:  # fmt: skip
    """Compare the raster `path` (class values, or probabilities) with `truth` (class raster, or polygons, lines, points).

    `area` limits the comparison. Raises `LabelError` when truth and map have no pixel in common or no class name in common.
    """
    for wanted in filter(None, (report, csv, json_path)):
        writable(wanted)
    with Raster(path) as raster:
        tags = raster.tags()
        reader = _reader(raster, config, tags)
        labels = open_labels(truth, config.class_field, config.buffer)
        unknown = _match(labels, reader.classes, config)
        if unknown:
            progress(0, f"Warning: the map has no class {', '.join(unknown)}: such truth is ignored.")
        if not labels.touches(raster.grid):
            raise LabelError("The truth lies outside the raster.", "Check the CRS of both: one of them may be assigned wrongly.")
        positive = _positive(reader.classes, config.positive)
        limits = Area(area, raster.grid) if area else None
        count = len(reader.classes)
        matrix, areas, whole = np.zeros((count, count), np.int64), np.zeros((count, 2)), np.zeros(count)
        units, curve, unmapped = {}, reader.curve(positive), 0
        shapes = (
            Shapes(truth, raster.grid.crs, config.class_field, config.buffer)
            if isinstance(labels, VectorLabels) and config.unlabelled == "ignored"
            else None
        )
        windows = list(blocks(raster.grid.width, raster.grid.height, BLOCK))
        for number, window in enumerate(windows):
            progress(number / len(windows), "")
            grid = raster.grid.part(window)
            known = labels.read(grid).astype(np.int16) - 1
            if limits is not None:
                known[~limits(window)] = -1
            guess, chance = reader.read(window)
            size = raster.grid.areas_m2(window)
            whole += np.bincount(guess[guess >= 0], size[guess >= 0], minlength=count)
            both = (known >= 0) & (guess >= 0)
            unmapped += int(((known >= 0) & (guess < 0)).sum())
            if not both.any():
                continue
            matrix += metrics.confusion(np.where(both, known, -1), guess, count)
            areas[:, 0] += np.bincount(known[both], size[both], minlength=count)
            areas[:, 1] += np.bincount(guess[both], size[both], minlength=count)
            if curve is not None:
                curve.update(chance[both], (known[both] == positive).astype(np.uint8))
            if shapes is not None and len(shapes) <= MANY_UNITS:
                _by_unit(units, shapes.burn(grid, range(1, len(shapes) + 1), np.int32)[both], known[both], guess[both], count)
    if matrix.sum() == 0:
        raise LabelError(
            "No truth pixel lies on a mapped pixel.", "Check the place and CRS of the truth, the area of interest, and the map's nodata."
        )
    result = Assessment(
        reader.classes, positive, matrix, metrics.scores(matrix), metrics.detection(matrix, positive), [tuple(a) for a in areas], list(whole),
        threshold=reader.threshold, unmapped=unmapped, curve=curve,
    )  # fmt: skip
    if len(units) > 1:
        result.intervals = metrics.bootstrap(np.stack(list(units.values())), np.random.default_rng([config.seed, 21]))
    if curve is not None:
        result.best_threshold = curve.best_threshold("iou")
    result.facts = _facts(result, path, truth, len(units), unknown)
    _write(result, config, report, csv, json_path, title or f"Assessment of {os.path.basename(path)}", tags)
    return result


def _by_unit(units: dict, burnt, known, guess, count: int) -> None:
    """A confusion matrix per truth feature: its pixels are not independent of each other, so intervals are drawn from features."""
    cells, pixels = np.unique((burnt.astype(np.int64) * count + known) * count + guess, return_counts=True)
    for cell, number in zip(cells.tolist(), pixels.tolist()):
        unit, place = divmod(cell, count * count)
        units.setdefault(unit, np.zeros((count, count), np.int64))[divmod(place, count)] += number


class _Classes:
    """A class raster: values to class indices."""

    threshold = None

    def __init__(self, raster: Raster, classes: tuple):
        self._raster, self.classes = raster, classes
        self._lookup = np.full(256, -1, np.int16)
        for i, c in enumerate(classes):
            self._lookup[c.value] = i

    def read(self, window):
        pixels, valid = self._raster.read(window)
        inside = valid[0] & (pixels[0] >= 0) & (pixels[0] <= 255) & (pixels[0] == np.rint(pixels[0]))
        return np.where(inside, self._lookup[np.where(inside, pixels[0], 0).astype(np.uint8)], -1), None

    def curve(self, positive: int):
        return None


class _Probabilities:
    """A probability raster: one band (class 1 from the threshold on), or one per class."""

    def __init__(self, raster: Raster, classes: tuple, threshold: float):
        self._raster, self.classes, self.threshold, self._positive = raster, classes, threshold, 1

    def read(self, window):
        pixels, valid = self._raster.read(window)
        ok = valid.all(axis=0)
        if ok.any() and (pixels[:, ok].min() < -1e-3 or pixels[:, ok].max() > 1 + 1e-3):
            raise GridMismatchError(
                f"{self._raster.path} holds values outside 0..1: it is no probability raster.",
                "Choose a class raster, or scale the probabilities to 0..1.",
            )
        if len(pixels) == 1:
            pixels = np.stack([1 - pixels[0], pixels[0]])
        return np.where(ok, map_classes.classify(pixels, self.threshold), -1).astype(np.int16), pixels[self._positive]

    def curve(self, positive: int):
        self._positive = positive
        return metrics.ProbabilityCurve()


def _reader(raster: Raster, config: AssessConfig, tags: dict):
    """Is it a class or a probability raster, and which classes has it?

    Floating-point numbers are probabilities, except in one band of whole numbers beyond 1: such a raster is a class raster that some
    calculator wrote. Whole-number types are classes.
    """
    probabilities = raster.dtype.kind == "f" and not (len(raster.bands) == 1 and _whole_numbers(raster))
    named = _named(config.classes, probabilities)
    if not named and CLASSES_KEY in tags:
        try:
            named = map_classes.from_json(parse_json(tags[CLASSES_KEY], "The raster's classes"))
        except (ConfigError, KeyError, TypeError, ValueError):
            named = ()  # someone edited the metadata: go on with the values alone
    if probabilities:
        named = named or map_classes.make(("other", "water")) if len(raster.bands) == 1 else named
        if len(named) != max(len(raster.bands), 2):
            raise ConfigError(
                f"The probability raster has {len(raster.bands)} bands; the names of its classes are not known.",
                "Name them in the classes field, in order.",
            )
        threshold = config.threshold if config.threshold is not None else _threshold(tags)
        return _Probabilities(raster, named, threshold)
    if len(raster.bands) != 1:
        raise ConfigError(
            f"{raster.path} has {len(raster.bands)} bands: it is neither a class nor a probability raster.",
            "Choose the output of classifyraster.",
        )
    return _Classes(raster, named or _found(raster))


def _whole_numbers(raster: Raster) -> bool:
    """Are all pixels whole numbers, and one beyond 1? Real probabilities show in the first block that holds data."""
    beyond = False
    for window in blocks(raster.grid.width, raster.grid.height, BLOCK):
        pixels, valid = raster.read(window)
        values = pixels[valid]
        if not np.array_equal(values, np.rint(values)):
            return False
        beyond |= bool(values.size and values.max() > 1)
    return beyond


def _threshold(tags: dict) -> float:
    try:
        found = float(tags.get("WATERDL_THRESHOLD", ""))
    except ValueError:
        return 0.5
    return found if 0 <= found <= 1 else 0.5


def _named(text: str, probabilities: bool) -> tuple[MapClass, ...]:
    """Classes out of 'land=0, water=1' or 'land, water'. The bands of probabilities are in the order of the values."""
    result = []
    for i, item in enumerate(t.strip() for t in text.split(",") if t.strip()):
        name, _, value = (t.strip() for t in item.partition("="))
        if not name or not re.fullmatch(r"[0-9]{0,3}", value) or int(value or i) > 254:
            raise ConfigError(f"The class {item[:40]!r} can't be understood.", "Write 'land=0, water=1'.")
        result.append(MapClass(int(value or i), name, map_classes.colour_of(name, i)))
    if len({c.value for c in result}) < len(result) or len({c.name for c in result}) < len(result):
        raise ConfigError(f"The classes {text[:100]!r} name one twice.", "Write 'land=0, water=1'.")
    return tuple(sorted(result, key=lambda c: c.value) if probabilities else result)


def _found(raster: Raster) -> tuple[MapClass, ...]:
    """Classes of a raster that names none: category names if there are any, else the values themselves."""
    values: set = set()
    for window in blocks(raster.grid.width, raster.grid.height, 2048):
        pixels, valid = raster.read(window)
        values |= {int(v) if v == int(v) else v for v in np.unique(pixels[valid]).tolist()}
        if len(values) > 255 or any(not 0 <= v <= 254 for v in values):
            raise ConfigError(f"{raster.path} is no class raster: it has values beyond 0 to 254.", "Choose the output of classifyraster.")
    names = raster.categories()
    return tuple(
        MapClass(v, names[v] if v < len(names) and names[v] else str(v), map_classes.colour_of(names[v] if v < len(names) else str(v), i))
        for i, v in enumerate(sorted(values))
    )


def _match(labels, classes: tuple, config: AssessConfig) -> list[str]:
    """Let the truth use the map's classes: by name, else by value. Returns those of the truth that the map has not: they are ignored."""
    background = config.unlabelled == "background"
    names, values = {c.name for c in classes}, {str(c.value) for c in classes}
    found = {map_classes.name_of(v) for v in labels.found}
    if not found:  # all features are the class of interest
        order = _positive(classes, config.positive)
        if not background:
            raise ConfigError(
                "The truth has one class only.", "Choose its class field, or let unlabelled pixels be background if the truth is complete."
            )
        if order != len(classes) - 1:
            raise ConfigError("The class of interest must be the last one for a truth without class field.", "Choose a class field.")
        labels.use(tuple(classes), True)
        return []
    by_name, by_value = found & names, found & values
    if not by_name and not by_value:
        raise LabelError(
            f"Truth ({', '.join(sorted(found)[:8])}) and map ({', '.join(c.name for c in classes)}) share no class.",
            "Choose the right class field, or name the map's classes: 'land=0, water=1'.",
        )
    labels.use(tuple(classes) if by_name else tuple(MapClass(c.value, str(c.value), c.colour) for c in classes), background)
    return sorted(found - (names if by_name else values))


def _positive(classes: tuple, text: str) -> int:
    if not text.strip():
        return len(classes) - 1
    for i, c in enumerate(classes):
        if text.strip() in (c.name, str(c.value)):
            return i
    raise ConfigError(f"There is no class {text[:40]!r}.", f"The map's classes are {', '.join(c.name for c in classes)}.")


def _facts(result: Assessment, path: str, truth: str, units: int, unknown: list) -> list:
    facts = [
        ("Map", os.path.basename(path)),
        ("Truth", os.path.basename(truth.split("|")[0])),
        ("Pixels compared", int(result.matrix.sum())),
    ]
    if units:
        facts.append(("Truth features", units))
    if result.unmapped:
        facts.append(("Truth pixels without map", result.unmapped))
    if unknown:
        facts.append(("Truth classes that the map does not know (ignored)", ", ".join(unknown)))
    if result.threshold is not None:
        facts.append(("Threshold", result.threshold))
    return facts


def _write(result: Assessment, config: AssessConfig, report: str, csv: str, json_path: str, title: str, tags: dict) -> None:
    names = [c.name for c in result.classes]
    if json_path:
        write_json(json_path, result.to_json())
    if csv:
        rows = [
            {"class": name, **{k: result.scores[k][i] for k in ("recall", "precision", "f1", "iou", "truth_pixels", "predicted_pixels")},
             "truth_area_m2": result.areas_m2[i][0], "map_area_m2": result.areas_m2[i][1], "whole_map_area_m2": result.mapped_area_m2[i]}
            for i, name in enumerate(names)
        ]  # fmt: skip
        overall = {"class": "all", **{k: result.scores[k] for k in ("accuracy", "kappa", "mcc", "mean_iou", "mean_dice")}}
        write_csv(csv, [*rows, {**overall, **{k: result.detection[k] for k in ("pod", "far", "csi", "bias")}}])
    if report:
        made_with = {k: v for k, v in tags.items() if k.startswith("WATERDL_") and k not in (CLASSES_KEY, "WATERDL_SETTINGS")}
        settings = {**config.to_json(), "map": {**made_with, "WATERDL_SETTINGS": _loads(tags.get("WATERDL_SETTINGS", "{}"))}}
        assessment_report(
            report, title=title, matrix=result.matrix, class_names=names, class_colours=[c.colour for c in result.classes], scores=result.scores,
            detection=result.detection, areas=result.areas_m2, curve=result.curve, intervals=result.intervals, settings=settings,
            facts=result.facts, positive=names[result.positive],
        )  # fmt: skip


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text[:200]


def percent(value: float) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f} %"
