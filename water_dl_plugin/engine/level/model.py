"""A model file that tells levels: its reservoirs, its members' answers, and how far they were off."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Optional

import numpy as np

from .. import strict
from ..backends import OnnxModel
from ..errors import ModelError
from ..grid import Grid
from ..manifest import place as parsed_place
from .conformal import ENOUGH
from .series import PARTS, Place, from_iso

_MOST = 200_000  # dates in a model file


@dataclass(frozen=True)
class Known:
    """A date that the model was made with. `unseen_m`: what the members that had not learnt from it made of it, None if all had."""

    reservoir: str
    when: dt.datetime
    level_m: float
    unseen_m: Optional[float]
    part: str
    source: str


class LevelModel:
    """A model file of `levelnet`, ready to run. Raises `ModelError` for another one.

    `info`: its `ModelInfo`; `sensor`; `places`: reservoirs that it was trained on, by name; `members`: number of its networks; `series`:
    the dates it was made with.
    """

    def __init__(self, path: str, device: str = "auto", threads: int = 0):
        self._model = OnnxModel(path, device, threads, gives="numbers")
        self.info, self.members, self.provider = self._model.info, self._model.channels, self._model.provider
        try:
            if self.info.task != "level":
                raise ValueError(f"it is for the task {self.info.task[:40]!r}")
            details = self.info.details
            self.sensor = strict.text(details.get("sensor", ""))
            told = [parsed_place(item) for item in strict.listing(details["reservoirs"], 10_000)]
            self.places = {p["name"]: _place(p) for p in told}
            self.series = [_known(row, [p["name"] for p in told]) for row in strict.listing(details.get("series", []), _MOST)]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelError(
                f"{path} is no model of water levels ({str(error)[:120]}).", "Choose one that was trained on chips of Export level chips."
            ) from None

    def levels(self, pixels: np.ndarray, valid: np.ndarray, datum_m: float) -> np.ndarray:
        """Levels in m, one per member, of a chip as it was cut: `(bands, rows, cols)` in the scene's units."""
        return self._model(self.info.normalisation.apply(pixels, valid)[None])[0].astype(np.float64) + datum_m

    def errors(self, reservoir: str = "") -> np.ndarray:
        """Estimate minus level in m, out of sample, of the dates that calibrate: of one reservoir, or of all."""
        return np.array([
            k.unseen_m - k.level_m for k in self.series
            if k.unseen_m is not None and k.part != "test" and reservoir in ("", k.reservoir)
        ])  # fmt: skip

    def interval_errors(self, reservoir: str) -> np.ndarray:
        """The errors that an interval of this reservoir is made of: its own, if they are enough, else those of all."""
        own = self.errors(reservoir)
        return own if len(own) >= ENOUGH else self.errors()


def _place(told: dict) -> Place:
    grid = Grid(told["width"], told["height"], tuple(told["transform"]), told["crs"])
    return Place(told["name"], grid, told["datum_m"], told["low_m"], told["high_m"])


def _known(row, names: list[str]) -> Known:
    number, when, level, unseen, part, source = strict.listing(row, 6)
    return Known(
        names[strict.whole(number, 0, len(names) - 1)], from_iso(strict.text(when)), strict.number(level, -1e5, 1e5),
        None if unseen is None else strict.number(unseen, -1e5, 1e5), strict.one_of(part, ("", *PARTS)), strict.text(source, 1000),
    )  # fmt: skip
