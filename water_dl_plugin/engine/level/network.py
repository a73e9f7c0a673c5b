"""A model's road from scenes to levels: cut the chip of each reservoir, ask the members, say how far to trust them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist
from types import SimpleNamespace
from typing import Callable, Optional

import numpy as np

from ..errors import ModelError, RasterError, WaterError
from ..grid import Grid
from ..progress import Progress, silent
from ..settings import EstimateLevelConfig
from .chips import sites
from .chips.cut import Cut, Opened, fits
from .conformal import half_width
from .inputs.columns import plain
from .model import LevelModel
from .series import BEYOND, ONE_PASS, Dropped, Estimate, Place, Reservoir, Scene

SCALE = 20.0  # times larger or smaller than in training, numbers vary that are in another unit


@dataclass(frozen=True)
class Target:
    """A reservoir as the model sees it: `place` with the grid of its chips; `inside`, bool on that grid; `trained`: the model has learnt from
    it; `half_width_m` of its interval; `known`: part by time of the dates that the model was made with."""

    reservoir: Reservoir
    place: Place
    inside: np.ndarray
    trained: bool
    half_width_m: Optional[float] = None
    known: dict = field(default_factory=dict)


@dataclass
class Found:
    """What the model came to; `errors` out of sample by reservoir, for `combine.combined`; `notes` for people."""

    estimates: list = field(default_factory=list)
    dropped: list = field(default_factory=list)
    errors: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)


def estimates(
    scenes: Sequence[Scene], reservoirs: Sequence[Reservoir], model: LevelModel, config: EstimateLevelConfig, progress: Progress = silent
) -> Found:
    """Levels of all `reservoirs` that the `scenes` show, by method "network". One scene is open at a time, once for all its reservoirs.

    A reservoir that the model was not trained on gets a grid of the model's scale, and no interval: errors on other reservoirs don't tell its
    own. Where two tiles of a pass show a reservoir, the one that covers more of it counts. Raises `ModelError` if no scene fits the model.
    """
    found, run = Found(), _Run(model, config)
    for reservoir in reservoirs:
        run.meet(reservoir, found)
    best: dict[str, tuple] = {}  # by reservoir: the last cut with its scene; it becomes an estimate when the next pass begins
    for number, scene in enumerate(scenes):
        try:
            cuts = run.cuts(scene, reservoirs, found, partial(progress, number / len(scenes), ""))
        except RasterError as error:
            found.dropped.append(Dropped("scene", os.path.basename(scene.path), "", scene.when, str(error)))
            continue
        for target, cut in cuts:
            name, other = target.reservoir.name, best.get(target.reservoir.name)
            if other is not None and scene.when - other[1].when <= ONE_PASS:
                worse = scene if cut.cover <= other[2].cover else other[1]
                found.dropped.append(_chip(worse, name, "another scene of the same pass covers as much of it or more"))
                if worse is scene:
                    continue
            elif other is not None:
                found.estimates.append(run.estimate(*other))
            best[name] = (target, scene, cut)
    found.estimates += [run.estimate(*last) for last in best.values()]
    if not found.estimates and run.misfits:
        raise ModelError(
            f"No scene fits the model: {run.misfits[0]}",
            "Choose scenes of the sensor and the bands that it was trained with (BANDS, SENSOR).",
        )
    found.notes += run.notes()
    return found


class _Run:
    """One model on many scenes."""

    def __init__(self, model: LevelModel, config: EstimateLevelConfig):
        self.model, self.config = model, config
        self.targets: dict[str, Optional[Target]] = {}
        self.names = [name for name, _ in model.info.bands]
        self.several = any(k.part == "train" and k.unseen_m is not None for k in model.series)  # members of different drawings
        self.misfits: list[str] = []
        self.scales: list[float] = []
        self.unmarked: set[str] = set()  # scenes without a quality band

    def meet(self, reservoir: Reservoir, found: Found) -> None:
        """Is the reservoir one of the model's?"""
        place = next((p for name, p in self.model.places.items() if plain(name) == plain(reservoir.name)), None)
        if place is None:
            has = (
                f"datum of {reservoir.datum_m:g} m is added to depths"
                if reservoir.datum_m is not None
                else "datum is unknown: its numbers are depths"
            )
            found.notes.append(
                f"{reservoir.name} is unknown to the model (it knows {', '.join(list(self.model.places)[:12])}): no interval can be told, and its {has}."
            )
            return
        if not sites.touches(reservoir, place.grid):
            self.targets[reservoir.name] = None
            found.notes.append(f"The polygon of {reservoir.name} does not lie where the model's {place.name} does: it is left out.")
            found.dropped.append(Dropped("reservoir", "", reservoir.name, None, "lies elsewhere than the model's reservoir of that name"))
            return
        if reservoir.datum_m is not None and place.datum_m is not None and abs(reservoir.datum_m - place.datum_m) > 0.001:
            found.notes.append(
                f"The datum of {reservoir.name} is {reservoir.datum_m:g} m; the model was trained with {place.datum_m:g} m, which is taken."
            )
        if place.datum_m is None:
            place = Place(place.name, place.grid, reservoir.datum_m, place.low_m, place.high_m)
        known = [k for k in self.model.series if k.reservoir == place.name]
        found.errors[reservoir.name] = [(k.when, k.unseen_m - k.level_m) for k in known if k.unseen_m is not None and k.part != "test"]
        if place.low_m is None:
            found.notes.append(f"The model knows {place.name}, but has learnt from no date of it: no interval can be told.")
        half = half_width(self.model.interval_errors(place.name), self.config.coverage / 100) if place.low_m is not None else None
        self.targets[reservoir.name] = Target(
            reservoir, place, sites.inside(reservoir, place.grid), place.low_m is not None, half, {k.when: k.part for k in known}
        )

    def target(self, reservoir: Reservoir, grid: Grid, found: Found) -> Optional[Target]:
        """The reservoir on its own grid, if it lies in a scene's `grid`. One that the model does not know gets a grid with the first scene."""
        if reservoir.name not in self.targets:
            if not sites.touches(reservoir, grid):
                return None
            info = self.model.info
            wanted = SimpleNamespace(buffer=0.0, tile_size=info.chip_size, resolution=info.pixel_size_m or 0.0)
            try:
                own = sites.grid_for(reservoir, grid, sites.frame([reservoir], {reservoir.name: grid}, wanted))
                place = Place(reservoir.name, own, reservoir.datum_m)
                self.targets[reservoir.name] = Target(reservoir, place, sites.inside(reservoir, own), False)
            except WaterError as error:
                self.targets[reservoir.name] = None
                found.notes.append(f"{reservoir.name} does not fit the model's chips and is left out: {error.message}")
                found.dropped.append(Dropped("reservoir", "", reservoir.name, None, error.message))
        target = self.targets[reservoir.name]
        return target if target is not None and sites.touches(reservoir, grid) else None

    def cuts(self, scene: Scene, reservoirs: Sequence[Reservoir], found: Found, tick: Callable) -> list[tuple[Target, Cut]]:
        """The chips of the reservoirs that a scene shows. Raises `RasterError` for a scene that can't be read."""
        tick()
        made, shown, file = [], False, os.path.basename(scene.path)
        if scene.sensor and self.model.sensor and scene.sensor != self.model.sensor:
            self._misfit(found, scene, f"of {scene.sensor}; the model was trained with {self.model.sensor}")
            return []
        with Opened(scene, self.config.bands, self.config.quality, self.names) as opened:
            for reservoir in reservoirs:
                tick()
                target = self.target(reservoir, opened.grid, found)
                if target is None:
                    continue
                if not shown and len(opened.bands) != len(self.names):
                    told = ", ".join(b.name for b in opened.bands)
                    self._misfit(
                        found,
                        scene,
                        f"has {len(opened.bands)} bands ({told[:200]}); the model takes {len(self.names)} ({', '.join(self.names)})",
                    )
                    return []
                if not shown and not self.config.bands.strip() and not fits([b.name for b in opened.bands], self.names):
                    told = ", ".join(b.name for b in opened.bands)[:200]
                    self._misfit(
                        found,
                        scene,
                        f"has the bands {told}; the model takes {', '.join(self.names)} (name them with BANDS if they mean the same)",
                    )
                    return []
                shown, cut = True, opened.cut(target.place.grid, target.inside, lambda *_: tick())
                if cut.cover == 0 or cut.cloud == 1:
                    reason = "wholly hidden by cloud and shadow" if cut.cover else "no data over the reservoir"
                    found.dropped.append(_chip(scene, reservoir.name, reason))
                else:
                    made.append((target, cut))
        if not shown:
            found.dropped.append(Dropped("scene", file, "", scene.when, "shows no reservoir"))
        return made

    def estimate(self, target: Target, scene: Scene, cut: Cut) -> Estimate:
        self._measure(cut)
        levels = self.model.levels(cut.pixels, cut.valid, target.place.datum_m or 0.0)
        if not cut.marked:
            self.unmarked.add(scene.path)
        return judged(levels, target, scene, cut.cloud if cut.marked else None, cut.cover, self.several, self.config)

    def _misfit(self, found: Found, scene: Scene, reason: str) -> None:
        self.misfits.append(f"{os.path.basename(scene.path)} {'is ' if reason.startswith('of ') else ''}{reason}.")
        found.dropped.append(Dropped("scene", os.path.basename(scene.path), "", scene.when, reason))

    def _measure(self, cut: Cut) -> None:
        """How much the numbers vary, as a share of what they did in training."""
        widths = [b["high"] - b["low"] for b in self.model.info.normalisation.bands if "high" in b and b["high"] > b["low"]]
        if len(widths) == len(cut.pixels):
            self.scales.append(
                float(np.median([plane[there].std() / w for plane, there, w in zip(cut.pixels, cut.valid, widths) if there.any()] or [1.0]))
            )

    def notes(self) -> list[str]:
        told, scale = [], float(np.median(self.scales)) if self.scales else 1.0
        if not 1 / SCALE <= scale <= SCALE:
            told.append(
                f"The scenes' numbers vary {scale:.2g} times as much as those that the model was trained with: are they in the same unit (reflectance or "
                "reflectance x 10000, dB or linear)? The levels can't be trusted."
            )
        if self.unmarked and self.config.quality != "none" and self.model.sensor != "sentinel-1":
            told.append(
                f"{len(self.unmarked)} scenes have no quality band (QA60, SCL, QA_PIXEL, UDM2): clouds in them are not known. Set QUALITY to none if there are none."
            )
        return told


def judged(
    levels: np.ndarray, target: Target, scene: Scene, cloud: Optional[float], cover: float, several: bool, config: EstimateLevelConfig
) -> Estimate:
    """The estimate out of the members' levels `(members,)` in m. `cloud` (None: not known), `cover`: shares 0..1; `several`: members have learnt from different
    dates, so that some have seen those for validation."""
    level, spread = float(levels.mean()), float(levels.std(ddof=1)) if len(levels) > 1 else None
    place, half, flags = target.place, target.half_width_m, []
    if not target.trained:
        flags.append("unknown_reservoir")
    if place.datum_m is None:
        flags.append("no_datum")
    if place.low_m is not None and place.high_m is not None:
        margin = BEYOND * (place.high_m - place.low_m)
        if not place.low_m - margin <= level <= place.high_m + margin:
            flags.append("outside_range")
    if cloud is not None and cloud > config.max_cloud / 100:
        flags.append("cloud")
    if cover < config.min_cover / 100:
        flags.append("cut_off")
    if half is None:
        flags.append("no_interval")
    elif spread is not None and NormalDist().inv_cdf(0.5 + config.coverage / 200) * spread > half:
        flags.append("disagreement")
    part = next((part for when, part in target.known.items() if abs(when - scene.when) <= ONE_PASS), "")
    if part == "train" or (part == "validation" and several):
        part, flags = "train", [*flags, "seen"]
    low, high = (None, None) if half is None else (level - half, level + half)
    return Estimate(
        target.reservoir.name, scene.when, level, low, high, "network", tuple(flags), os.path.basename(scene.path), scene.sensor, spread,
        part=part, cloud=cloud,
    )  # fmt: skip


def _chip(scene: Scene, name: str, reason: str) -> Dropped:
    return Dropped("chip", os.path.basename(scene.path), name, scene.when, reason)
