"""The page that people read after training on values: errors against the interpolated base, what the expected errors are worth, pictures."""

from __future__ import annotations

import numpy as np

from . import plots
from .heights import gradient
from .panels import SEPARATOR, shades
from .report import Report
from .report_pages import HEADERS, epoch_table, how

SEPARATED = 4  # px between pictures
COLUMNS = {
    **HEADERS, "rmse": "RMSE", "mae": "MAE", "bias": "bias", "rmse_base": "RMSE of the base", "skill": "share of the RMSE that is gone",
}  # fmt: skip


def values_report(path: str, run, unit: str, pixel_m: float, groups: list) -> None:
    """Write the page of a training run (`trainer.Run`) on values in `unit`; `pixel_m`: side of a pixel.

    `groups`: (which, [(chip, skill, pixels, valid, given, target)]), chips to show. Raises `OutputError`.
    """
    figures = run.evaluation.figures()
    page = Report(run.title, run.subtitle)
    page.facts([
        (f"RMSE ({unit})", figures["rmse"]), (f"RMSE of the interpolated base ({unit})", figures["rmse_base"]),
        ("Share of it that is gone", f"{figures['skill']:.1%}"), (f"MAE ({unit})", figures["mae"]), (f"Bias ({unit})", figures["bias"]), *run.facts,
    ])  # fmt: skip
    if run.history:
        page.heading("Learning curves")
        caption = "Errors: on the validation chips. Circle: the epoch whose weights are in the model file. Dotted line: the next stage."
        page.figure(plots.curves(run.history, run.best_epoch, plots.ERRORS), caption)
    if run.evaluation.pixels:
        page.heading("What the expected error is worth")
        page.figure(reliability(run.evaluation.told, unit), "On the diagonal, pixels err by as much as the model says. Below: their share.")
    for which, chips in groups:
        page.heading(f"Validation chips with the {which} gain")
        page.text("Each row: interpolated base, result, truth as shaded relief; expected error (light: small).")
        page.gallery([
            (_row(pixels, valid, given, target, pixel_m), f"{image}, {skill:.1%} of the base's RMSE gone") for image, skill, pixels, valid, given, target in chips
        ])  # fmt: skip
    page.heading("How it was made")
    epoch_table(page, run.history, COLUMNS)
    how(page, run.settings, run.versions)
    page.write(path)


def _row(pixels: np.ndarray, valid: np.ndarray, given: np.ndarray, target: np.ndarray, pixel_m: float) -> np.ndarray:
    """Four grey pictures side by side, uint8 `(rows, 4 cols + 3 SEPARATED, 3)`."""
    base = np.where(valid[0], pixels[0], np.nan).astype(np.float64)
    heights = [base, base + given[0], base + target]
    spread = given[1] / max(float(np.percentile(given[1], 98)), 1e-6)
    relief, _ = shades([gradient(z, pixel_m, pixel_m) for z in heights], SEPARATED)
    grey = np.where(valid[0], 255 * (1 - 0.9 * np.clip(spread, 0, 1)), 235).astype(np.uint8)
    gap = np.full((len(base), SEPARATED, 3), SEPARATOR, np.uint8)
    return np.concatenate([relief, gap, np.repeat(grey[..., None], 3, axis=2)], axis=1)


def reliability(told: np.ndarray, unit: str):
    """Root mean square error over expected error, both in `unit`, by classes of expected error; `told` `(classes, 3)`: pixels, sum of
    squared expected errors, sum of squared errors."""
    seen = told[:, 0] > max(told[:, 0].sum() * 1e-4, 20)
    count, expected, found = told[seen].T
    expected, found = np.sqrt(expected / np.maximum(count, 1)), np.sqrt(found / np.maximum(count, 1))
    figure = plots.new_figure(3.6, width=plots.WIDTH / 2)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    plots.dress(top, y=f"RMSE ({unit})", grid="both")
    plots.dress(bottom, x=f"expected error ({unit})", y="pixels")
    if len(count):
        limits = min(expected.min(), found.min()) * 0.8, max(expected.max(), found.max()) * 1.25
        top.plot(limits, limits, color=plots.FAINT, linewidth=0.9, linestyle=(0, (3, 3)))
        top.plot(expected, found, "o-", color=plots.BLUE, linewidth=1.5, markersize=5)
        top.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
        bottom.bar(expected, count / count.sum(), width=expected * 0.15, color="#a9c3d6")
        for axis in (top.xaxis, top.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: "")
    bottom.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    return figure
