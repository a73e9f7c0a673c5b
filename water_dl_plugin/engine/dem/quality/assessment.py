"""What an assessment of a DEM found, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Optional

from ...settings import AssessDemConfig
from .compare import Frame, Sights, Surface
from .figures import improvement

SHIFT_OUTPUTS = {"SHIFT_EAST_M": "east_m", "SHIFT_NORTH_M": "north_m", "SHIFT_PX": "pixels_of_dem", "OFFSET_M": "offset_m"}


@dataclass
class DemAssessment:
    """The figures. `dem` and `baselines` are `Surface` with their figures in `whole`; `by_slope` and `by_land` are lists of (name of the
    class, [figures of the DEM, of each baseline]); `best` is the baseline with the smallest RMSE."""

    config: AssessDemConfig
    dem: Surface
    baselines: list
    frame: Frame
    by_slope: list = field(default_factory=list)
    by_land: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    facts: list = field(default_factory=list)
    shifts: list = field(default_factory=list)
    sights: Optional[Sights] = None
    overviews: list = field(default_factory=list)
    atoms: list = field(default_factory=list)  # errors of the DEM and of each baseline as (values, pixels)

    @property
    def surfaces(self) -> list:
        return [self.dem, *self.baselines]

    @property
    def best(self) -> Optional[Surface]:
        return min(self.baselines, key=lambda s: s.whole["rmse"]) if self.baselines else None

    def improvement(self, surface: Surface) -> Optional[float]:
        """By how many per cent the DEM's RMSE is smaller than that of a baseline."""
        return improvement(self.dem.whole["rmse"], surface.whole["rmse"])

    def numbers(self) -> dict:
        """The figures that a model or a shell may want, by the names of the outputs; None where undefined."""
        found = {name.upper(): value for name, value in self.dem.whole.items() if name != "median"}
        shift = self.shifts[0]
        found.update({name: shift[key] for name, key in SHIFT_OUTPUTS.items()})
        if self.best is not None:
            found.update(BASELINE_RMSE=self.best.whole["rmse"], IMPROVEMENT=self.improvement(self.best))
        return {name: None if value is None or math.isnan(value) else value for name, value in found.items()}

    def headline(self) -> str:
        """The result in a sentence or two for people who have never heard of RMSE."""
        f, best = self.dem.whole, self.best
        level = "on average it is neither too high nor too low" if abs(f["bias"]) <= 0.05 * f["rmse"] else (
            f"on average it is {metres(abs(f['bias']))} too {'high' if f['bias'] > 0 else 'low'}"
        )  # fmt: skip
        told = f"Heights are typically {metres(f['rmse'])} off (root mean square error); 9 of 10 pixels are within {metres(f['le90'])}; {level}."
        if best is None:
            return told
        other, gain = f"{best.title} as it is" if not best.method else f"plain interpolation ({best.title})", self.improvement(best)
        if gain is None:
            return f"{told} With {other} there is no error at all."
        theirs = metres(best.whole["rmse"])
        if abs(gain) < 1:
            return f"{told} That is as good as {other}, {theirs} off."
        if gain < 0:
            return f"{told} That is {-gain:.0f} % more than {other}, which is {theirs} off: the DEM adds no accuracy."
        return f"{told} That is {gain:.0f} % less than {'the best ' if best.method else ''}{other}, which is {theirs} off."

    def lines(self) -> list[str]:
        """The figures in words, for the log."""
        rows = [self.headline()]
        for surface in self.surfaces:
            f = surface.whole
            rows.append(
                f"{surface.title}: RMSE {f['rmse']:.3f} m, MAE {f['mae']:.3f}, bias {f['bias']:+.3f}, NMAD {f['nmad']:.3f}, LE90 {f['le90']:.3f}, "
                f"R2 {f['r2']:.5f}, slope RMSE {f['slope_rmse']:.2f} degrees"
            )
        return [*rows, *(shift["told"] for shift in self.shifts)]

    def to_json(self) -> dict:
        classes = {"slope_classes": self.by_slope, "land_classes": self.by_land}
        return {
            "headline": self.headline(), "dem": {"name": self.dem.name, "method": self.dem.method, **self.dem.whole},
            "baselines": [{"name": s.name, "method": s.method, **s.whole, "improvement_percent": self.improvement(s)} for s in self.baselines],
            **{key: [{"class": name, "dem": found[0], "baselines": [
                {"name": s.name, "method": s.method, **figures, "improvement_percent": improvement(found[0]["rmse"], figures["rmse"])}
                for s, figures in zip(self.baselines, found[1:])
            ]} for name, found in rows] for key, rows in classes.items()},
            "coregistration": self.shifts, "notes": self.notes, "settings": self.config.to_json(),
        }  # fmt: skip

    def rows(self) -> list[dict]:
        """Lines of the table: per raster all pixels, each slope class and each land class."""
        table = []
        for by, classes in (("all", [("all pixels", [s.whole for s in self.surfaces])]), ("slope", self.by_slope), ("land", self.by_land)):
            for name, found in classes:
                for surface, figures in zip(self.surfaces, found):
                    gain = None if surface is self.dem else improvement(found[0]["rmse"], figures["rmse"])
                    table.append(
                        {
                            "raster": surface.name,
                            "method": surface.method,
                            "by": by,
                            "class": name,
                            **figures,
                            "dem_is_better_percent": gain,
                        }
                    )
        return table


def metres(value: float) -> str:
    """A height difference as people say it."""
    return (
        f"{value:.0f} m"
        if value >= 100
        else f"{value:.1f} m"
        if value >= 1
        else f"{100 * value:.0f} cm"
        if value >= 0.095
        else f"{100 * value:.1g} cm"
    )
