"""Truth against a map: everything that tells how far to trust a class or probability raster. Read in blocks, never as a whole."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from . import classes as map_classes
from . import metrics
from .classes import MapClass
from .errors import ConfigError, LabelError
from .labels import Area, Shapes, VectorLabels, open_labels
from .maps import BLOCK, CLASSES_KEY, open_map
from .progress import Progress, silent
from .raster import Raster, writable
from .report_pages import assessment_report
from .settings import AssessConfig
from .tables import write_csv, write_json
from .windows import blocks

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
        reader = open_map(raster, config.classes, config.threshold)
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
        units, curve, unmapped = {}, metrics.ProbabilityCurve() if reader.probabilities else None, 0
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
            guess, chances = reader.read(window)
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
                curve.update(chances[positive][both], (known[both] == positive).astype(np.uint8))
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
