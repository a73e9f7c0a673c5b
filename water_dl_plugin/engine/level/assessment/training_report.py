"""The page that people read after training on levels: what the members say of the dates that they have not learnt from."""

from __future__ import annotations

import numpy as np

from ... import plots
from ...report import Report
from ...report_pages import HEADERS, epoch_table, how
from ..conformal import ENOUGH, half_width
from ..series import from_iso
from . import charts, scores

_COLUMNS = {**HEADERS, "r2": "R²", "rmse": "RMSE", "mae": "MAE", "bias": "bias"}
_ERRORS = plots.Figures(
    "Error (m)", (("mae", "MAE", plots.ORANGE), ("rmse", "RMSE", plots.BLUE)), "rmse", "kept: epoch {epoch:g}, RMSE {value:.3g} m"
)
_PARTS = {"validation": "held out (calibrates the interval)", "test": "test"}


def level_training(path: str, run, details: dict) -> None:
    """Write the page of a training run (`trainer.Run`); `details`: of the model file, see `model.LevelModel`. Raises `OutputError`."""
    page = Report(run.title, run.subtitle)
    names = [place["name"] for place in details["reservoirs"]]
    rows = [
        (names[n], from_iso(when), level, unseen, "test" if part == "test" else "validation")  # held out in any drawing of the split
        for n, when, level, unseen, part, _ in details["series"] if unseen is not None
    ]  # fmt: skip
    errors = np.array([unseen - level for _, _, level, unseen, part in rows if part != "test"])
    width = half_width(errors)
    figures = run.evaluation.figures()
    page.facts([
        ("R² on held-out dates", figures["r2"]), ("RMSE (m)", figures["rmse"]), ("MAE (m)", figures["mae"]),
        ("90 % interval", f"± {width:.2f} m" if width is not None else "too few held-out dates"), ("Members", details["members"]), *run.facts,
    ])  # fmt: skip
    page.heading("Learning curves")
    page.figure(
        plots.curves(run.history, run.best_epoch, _ERRORS), "Means over the members. Errors: of single members on the held-out dates."
    )
    table = []
    for name in names:
        lines = []
        for part, told in _PARTS.items():
            own = [r for r in rows if r[0] == name and r[4] == part]
            if own:
                level, unseen = (np.array([r[k] for r in own]) for k in (2, 3))
                lines.append(charts.Line(told, [r[1] for r in own], unseen, observed_m=level))
                table.append([name, part, len(own), *_figures(level, unseen)])
        if lines:
            page.heading(f"Reservoir {name}" if len(names) > 1 else "Dates that were not learnt from")
            page.figure(
                charts.over_time(lines, _all(details, names.index(name))), "Line: the gauge at the dates of the chips, over the same time."
            )
            page.figure(charts.scatter(lines), "On the line, estimate and gauge agree.")
    page.heading("Figures")
    page.table(["Reservoir", "Part", "Dates", "R²", "RMSE (m)", "MAE (m)", "Bias (m)", "Days off by more than 1 m"], table)
    if len(names) > 1:
        page.text(f"A reservoir with fewer than {ENOUGH} held-out dates gets the interval of all.")
    page.heading("How it was made")
    epoch_table(page, run.history, _COLUMNS)
    how(page, run.settings, run.versions)
    page.write(path)


def _figures(level: np.ndarray, unseen: np.ndarray) -> list:
    found = scores.figures(level, unseen)
    return [found[key] for key in ("r2", "rmse", "mae", "bias", "days_off")]


def _all(details: dict, number: int) -> tuple:
    rows = sorted((from_iso(r[1]), r[2]) for r in details["series"] if r[0] == number)
    return [when for when, _ in rows], np.array([level for _, level in rows])
