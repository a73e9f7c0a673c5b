"""The page about a search: what was found, what mattered, and every trial."""

from __future__ import annotations

import math

from ..report import Report
from ..tables import json_text
from ..trainer import versions
from . import plots

_STATES = {"complete": "", "pruned": "given up early", "failed": "failed"}


def tune_report(path: str, found) -> None:
    """Writes the page of a `search.Search` that has a best trial. Raises `OutputError`."""
    trials, best, monitor = found.trials, found.best, found.monitor
    page = Report(found.title, f"{len(trials)} trials" + (f" of {found.epochs} epochs" if found.epochs else ""))
    first = next((t for t in trials if t.number == 1 and t.state == "complete"), None)
    number = {state: sum(t.state == state for t in trials) for state in _STATES}
    page.facts([
        (f"Best {monitor} (trial {best.number})", best.figure), *([(f"{monitor} of the defaults", first.figure)] if first else []),
        ("Trials", len(trials)), ("Given up early", number["pruned"]), ("Failed", number["failed"]), *found.facts,
    ])  # fmt: skip
    page.heading("Best settings")
    rows = [[name, _value(best.values[name]), _value(getattr(found.start, name)), _span(axis)] for name, axis in found.space.items()]
    page.table(["Setting", "Best", "Default", "Searched"], rows, numeric=False)
    page.text(
        "The file with the best settings goes into 'Settings file' of Train model. The figure is that of the validation chips, the same for "
        f"all trials, and the best of {number['complete']} is picked on it: on other chips expect less. Compare the final model with one "
        "of the defaults on chips or maps that took no part."
    )
    page.heading("Course of the search")
    page.figure(plots.history(trials, monitor, found.lower_is_better), "Figure of each trial at its best epoch, on the validation chips.")
    if any(len(t.course) > 1 for t in trials):
        page.figure(plots.courses(trials, monitor, best), "Best figure so far within each training.")
    page.heading("What mattered")
    if found.importances:
        page.figure(plots.importances(found.importances), "PED-ANOVA: how much the best trials differ from all in a setting (sum 100 %).")
        page.text(
            "With few trials this is a hint and no proof. A setting that hardly matters can be left at its default, and out of the next search."
        )
    else:
        page.text("Ten trials that did not fail are needed to say which setting mattered.")
    page.figure(
        plots.slices(trials, found.space, monitor, best), "A point per trial, later ones darker, hollow: given up early. Ring: the best."
    )
    page.heading("How it was made")
    sign = 1 if found.lower_is_better else -1
    ordered = sorted(trials, key=lambda t: (math.isnan(t.figure), sign * t.figure if math.isfinite(t.figure) else 0, t.number))
    header = ["Trial", monitor, "Epoch", "Time (s)", *found.space, ""]
    page.details_table(
        "Every trial, the best first", header,
        [[t.number, t.figure, t.epoch, round(t.seconds, 1), *(_value(t.values.get(n)) for n in found.space), t.why or _STATES[t.state]] for t in ordered],
    )  # fmt: skip
    page.details("Best settings as JSON", json_text(found.settings))
    page.details("Settings of the search", json_text(found.config.to_json()))
    page.details_table("Versions", ["Package", "Version"], list(_versions().items()), numeric=False)
    page.write(path)


def _versions() -> dict:
    import optuna

    return {**versions(), "optuna": optuna.__version__}


def _value(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else "none" if value in ("", None) else str(value)


def _span(axis) -> str:
    if isinstance(axis, tuple):
        return ", ".join(_value(v) for v in axis)
    return f"{axis.low:g} to {axis.high:g}{', logarithmic' if axis.log else ''}"
