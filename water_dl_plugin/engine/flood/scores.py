"""What an assessment of flood maps came to: figures per map, and the classes of the agreement raster."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from .. import metrics
from ..classes import MapClass
from ..settings import AssessFloodConfig

AGREEMENT = (
    MapClass(0, "correct negative", (235, 235, 230)), MapClass(1, "hit", (31, 120, 180)), MapClass(2, "miss", (203, 24, 29)),
    MapClass(3, "false alarm", (253, 174, 97)),
)  # fmt: skip
NUMBERS = ("pod", "far", "csi", "bias", "f1", "map_km2", "reference_km2", "depth_rmse_m", "depth_mae_m", "depth_bias_m")


@dataclass
class Score:
    """One map's figures. `matrix` `(2, 2)` in pixels, [reference, map] with dry before wet; `km2` the areas of correct negatives, hits, misses and
    false alarms on the ellipsoid; `picture` `(rows, cols)` of these, 0 to 3, else 255, thinned for a report."""

    name: str
    path: str
    kind: str
    matrix: np.ndarray = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    km2: np.ndarray = field(default_factory=lambda: np.zeros(4))
    unmapped: int = 0
    depth: Optional[np.ndarray] = None
    picture: Optional[np.ndarray] = None

    def add(self, kind: np.ndarray, counted: np.ndarray, areas_km2: np.ndarray) -> None:
        """Add pixels of these kinds (places in AGREEMENT)."""
        pixels = np.bincount(kind[counted], minlength=4)
        self.matrix += np.array([[pixels[0], pixels[3]], [pixels[2], pixels[1]]])
        self.km2 += np.bincount(kind[counted], areas_km2[counted], minlength=4)

    def add_depths(self, map_m: np.ndarray, reference_m: np.ndarray) -> None:
        """Add the depths of pixels that are wet in either."""
        error = map_m - reference_m
        self.depth = (0 if self.depth is None else self.depth) + np.array([error.size, error.sum(), np.abs(error).sum(), (error**2).sum()])

    def figures(self) -> dict:
        """All figures as plain numbers, NaN where undefined.

        With hits h, misses m and false alarms f in pixels, as in Wilks (2011, Statistical Methods in the Atmospheric Sciences, section 8.2):
        `pod` probability of detection h / (h + m); `far` false alarm ratio f / (h + f); `csi` critical success index h / (h + m + f), also called
        threat score, the same as IoU (Schaefer 1990, 10.1175/1520-0434(1990)005<0570:TCSIAA>2.0.CO;2); `bias` (h + f) / (h + m), above 1 where too
        much is flooded; `f1` 2h / (2h + m + f). Areas in km2. Where both hold depths, over pixels wet in either: `depth_rmse_m`,
        `depth_mae_m` and `depth_bias_m` (map minus reference) in m, dry counting as 0; `depth_pixels` their number.
        """
        found = metrics.detection(self.matrix, 1)
        _, hit, miss, false_alarm = self.km2.tolist()
        found.update(
            f1=metrics.scores(self.matrix)["f1"][1], hit_km2=hit, miss_km2=miss, false_alarm_km2=false_alarm, correct_negative_km2=self.km2[0].item(),
            map_km2=hit + false_alarm, reference_km2=hit + miss, unmapped=self.unmapped,
        )  # fmt: skip
        if self.depth is not None:
            count, total, absolute, squares = self.depth.tolist()
            share = [value / count if count else math.nan for value in (squares, absolute, total)]
            found.update(depth_rmse_m=math.sqrt(share[0]), depth_mae_m=share[1], depth_bias_m=share[2], depth_pixels=int(count))
        return found

    def line(self) -> str:
        """The figures in words, for the log."""
        f = self.figures()
        told = ", ".join(
            f"{name} {f[key]:.4f}" for name, key in (("POD", "pod"), ("FAR", "far"), ("CSI", "csi"), ("bias", "bias"), ("F1", "f1"))
        )
        depths = f"; depth RMSE {f['depth_rmse_m']:.3f} m, bias {f['depth_bias_m']:+.3f} m" if self.depth is not None else ""
        return f"{self.name}: {told}; flooded {f['map_km2']:.6g} km², reference {f['reference_km2']:.6g} km²{depths}"


@dataclass
class FloodAssessment:
    """The figures of all maps, in their order, over the pixels that all of them and the reference know."""

    scores: list
    reference: str
    config: AssessFloodConfig
    permanent: int = 0
    notes: list = field(default_factory=list)

    @property
    def best(self) -> Score:
        """The map with the highest CSI; the first among equals."""
        return max(self.scores, key=lambda s: -1.0 if math.isnan(s.figures()["csi"]) else s.figures()["csi"])

    def numbers(self) -> dict:
        """The first map's figures, by the names of the outputs; None where undefined."""
        figures = self.scores[0].figures()
        return {k.upper(): None if math.isnan(figures.get(k, math.nan)) else float(figures[k]) for k in NUMBERS}

    def rows(self) -> list[dict]:
        """A line per map."""
        return [{"map": s.name, "holds": s.kind, **s.figures()} for s in self.scores]

    def to_json(self) -> dict[str, Any]:
        return {
            "reference": os.path.basename(self.reference), "maps": self.rows(), "best": self.best.name, "permanent_water_pixels": self.permanent,
            "notes": self.notes, "settings": self.config.to_json(),
        }  # fmt: skip
