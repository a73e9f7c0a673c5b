"""The page about flood maps: a table of all, a map of hits, misses and false alarms of each."""

from __future__ import annotations

import math
import os

from ..panels import IGNORED, colourise
from ..plots import BLUE, GREEN, INK, ORANGE, SOFT, dress, new_figure, shortened
from ..report import Report, Swatch, number
from ..tables import json_text
from .scores import AGREEMENT, FloodAssessment


def flood_report(path: str, result: FloodAssessment, title: str) -> None:
    """Writes the page of a `FloodAssessment`. Raises `OutputError`."""
    page, best, rows = Report(title), result.best, result.rows()
    figures, several = best.figures(), len(rows) > 1
    head = [("Best of the maps (CSI)", best.name)] if several else []
    pixels = int(best.matrix.sum())
    page.facts([
        *head, ("POD", figures["pod"]), ("FAR", figures["far"]), ("CSI", figures["csi"]), ("Bias", figures["bias"]), ("F1", figures["f1"]),
        ("Flooded, reference", f"{_km2(figures['reference_km2'])} km²"), ("Pixels compared", pixels),
    ])  # fmt: skip
    if result.notes:
        page.heading("To be known")
        for note in result.notes:
            page.text(note)
    page.heading("Agreement")
    page.figure(_bars(rows), "POD and CSI are best at 1, FAR at 0.")
    page.table(["Map", "POD", "FAR", "CSI", "Bias", "F1"], [[r["map"], *(r[k] for k in ("pod", "far", "csi", "bias", "f1"))] for r in rows])
    page.text(
        "POD, probability of detection: share of the flooded pixels of the reference that the map floods. FAR, false alarm ratio: share of the map's "
        "flooded pixels that are dry in the reference. CSI, critical success index (= IoU): hits among hits, misses and false alarms. Bias: flooded pixels of "
        "the map through those of the reference. F1: twice the hits through the flooded pixels of both. Counted in pixels of the reference."
    )
    page.heading("Areas")
    keys = ("hit_km2", "miss_km2", "false_alarm_km2", "map_km2", "reference_km2")
    page.table(
        ["Map", "Hits", "Misses", "False alarms", "Flooded, map", "Flooded, reference"],
        [[r["map"], *(_km2(r[k]) for k in keys)] for r in rows],
    )
    page.text("In km² on the ellipsoid.")
    depths = [r for r in rows if "depth_rmse_m" in r]
    if depths:
        page.heading("Depths")
        lines = [[r["map"], r["depth_rmse_m"], r["depth_mae_m"], r["depth_bias_m"], r["depth_pixels"]] for r in depths]
        page.table(["Map", "RMSE (m)", "MAE (m)", "Bias (m)", "Pixels"], lines)
        page.text(
            "Over pixels that are flooded in the map, the reference, or both; dry ground has the depth that the raster gives it, else 0. Bias: map minus reference."
        )
    page.heading("Where")
    page.legend([*(Swatch(c.name, c.colour) for c in AGREEMENT), Swatch("not compared", IGNORED)])
    colours = [c.colour for c in AGREEMENT]
    page.gallery([(colourise(s.picture, colours), f"{s.name}: CSI {number(s.figures()['csi'])}") for s in result.scores])
    page.heading("How it was made")
    page.details_table(
        "Pixels", ["Map", "Hits", "Misses", "False alarms", "Correct negatives"],
        [[r["map"], *(r[k] for k in ("hits", "misses", "false_alarms", "correct_negatives"))] for r in rows],
    )  # fmt: skip
    source = {
        "reference": os.path.basename(result.reference),
        "maps": {s.name: f"{os.path.basename(s.path)} ({s.kind})" for s in result.scores},
    }
    page.details("Settings", json_text({**source, "permanent water left out, pixels": result.permanent, **result.config.to_json()}))
    page.write(path)


def _bars(rows: list):
    """POD, FAR and CSI of each map."""
    figure = new_figure(0.8 + 0.4 * len(rows))
    for place, (key, colour) in enumerate((("pod", GREEN), ("far", ORANGE), ("csi", BLUE))):
        axes = figure.add_subplot(1, 3, place + 1)
        for at, row in enumerate(rows):
            value = row[key]
            if math.isnan(value):
                axes.text(0.02, at, "–", va="center", fontsize=9, color=SOFT)
                continue
            axes.barh(at, value, height=0.56, color=colour, alpha=0.85)
            axes.text(value + 0.02, at, f"{value:.3f}", va="center", fontsize=8.5, color=INK)
        dress(axes, title=key.upper(), grid="x")
        axes.set(xlim=(0, 1.2), ylim=(len(rows) - 0.45, -0.55))
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks(range(len(rows)), [shortened(row["map"], 26) for row in rows] if place == 0 else [""] * len(rows))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["bottom"].set_visible(False)
    return figure


def _km2(value: float) -> str:
    return f"{value:.4g}"
