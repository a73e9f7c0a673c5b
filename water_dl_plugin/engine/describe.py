"""A model file in words."""

from __future__ import annotations

import os

from .backends import OnnxModel
from .report import Report, Swatch


def facts(model: OnnxModel) -> list[tuple[str, str]]:
    """What a user wants to know first, as (label, text)."""
    info = model.info
    origin = {"waterdl": "Water DL", "deepness": "Deepness metadata", "none": "no metadata: bands and classes are guessed from the graph"}
    size = f"{info.pixel_size_m:.4g} m" if info.pixel_size_m else "unknown"
    gives = [("Classes", ", ".join(f"{c.value} {c.name}" for c in info.classes)), ("Threshold", f"{info.threshold:g}")]
    return [
        ("File", os.path.basename(model.path)), ("Metadata", origin[info.source]), ("Task", info.task),
        ("Network", " ".join([info.architecture or "unknown", *(f"{k}={v}" for k, v in info.arguments.items())])[:300]),
        ("Bands", ", ".join(f"{name} ({unit})" if unit else name for name, unit in info.bands)), ("Trained at", size),
        ("Window", f"{model.tile} px, fixed" if model.tile else f"{info.chip_size} px around a reservoir" if info.task == "level" else f"any multiple of {info.multiple} px; trained with {info.chip_size} px"),
        ("Normalisation", info.normalisation.scheme + (", inside the graph" if info.normalisation.in_graph else "")),
        *(gives if info.task == "segmentation" else _levels(info.details) if info.task == "level" else []), ("Licence", info.licence or "not stated"),
    ]  # fmt: skip


def _levels(details: dict) -> list[tuple[str, str]]:
    """What a model of water levels knows: its reservoirs with the range of levels that training saw. A stranger's file may hold anything."""
    places = details.get("reservoirs")
    known = [p for p in places if isinstance(p, dict)] if isinstance(places, list) else []

    def told(place: dict) -> str:
        low, high, datum = (place.get(k) for k in ("low_m", "high_m", "datum_m"))
        levels = (
            f" ({low:.2f} to {high:.2f} m" + (f", datum {datum:.2f} m)" if _number(datum) else ")")
            if _number(low) and _number(high)
            else ""
        )
        return f"{str(place.get('name'))[:60]}{levels}"

    shown = ", ".join(map(told, known[:10])) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
    return [
        ("Sensor", str(details.get("sensor", ""))[:60] or "unknown"),
        ("Members", str(details.get("members", ""))[:10]),
        ("Reservoirs", shown),
    ]


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6


def lines(model: OnnxModel) -> list[str]:
    """The facts and the training summary, one line each."""
    training = model.info.training
    figures = training.get("figures") if isinstance(training.get("figures"), dict) else {}
    told = [
        f"{key}: {str(training[key])[:200]}" for key in ("chips", "validation_chips", "epochs", "best_epoch", "seed") if key in training
    ]
    agreement = [f"{key} {value:.4f}" for key, value in figures.items() if isinstance(value, float)]
    rows = [f"{label}: {text}" for label, text in facts(model)]
    rows += [f"Training: {'; '.join(told)}"] if told else []
    rows += [f"On its validation chips: {'; '.join(agreement)}"] if agreement else []
    return rows + ([f"Model card: {model.info.card}"] if model.info.card else [])


def report(model: OnnxModel, path: str) -> None:
    """The same as an HTML page. Raises `OutputError`."""
    page = Report(f"Model {os.path.basename(model.path)}")
    page.table(["", ""], [[label, text] for label, text in facts(model)], numeric=False)
    if model.info.classes:
        page.heading("Classes")
        page.table(["Class", "Value"], [[Swatch(c.name, c.colour), c.value] for c in model.info.classes])
    if model.info.card:
        page.heading("Model card")
        page.text(model.info.card)
    if model.info.training:
        from .tables import json_text

        page.heading("Training")
        page.details("Summary", json_text(model.info.training))
    page.write(path)
