"""Dated scenes, reservoirs and a gauge -> chips folder of the task "level". The job behind `exportlevelchips`."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Optional

import numpy as np

from ... import catalogue
from ...chips import Chip, Manifest, write_manifest
from ...errors import ChipsError, ConfigError, OutputError, RasterError
from ...grid import moved
from ...normalise import Sketch
from ...progress import Progress, part, silent
from ...raster import write_small
from ...settings import LevelChipsConfig
from ...writer import apart
from .. import dropped as left_out
from ..inputs import gauge, match, plausible, scenes
from ..series import ONE_PASS, PARTS, Dropped, Reading, Reservoir, iso
from . import sites, split, survey
from .cut import Cut, Opened

FEWEST = 8  # chips; fewer teach nothing
_SAME = 0.01  # m; levels within it do not vary
_NO_QA60 = (dt.datetime(2022, 1, 25), dt.datetime(2024, 2, 28))  # Earth Engine's QA60 marks nothing in between


@dataclass(frozen=True)
class _Kept:
    """A chip that is written: what it shows, its level, the share of the polygon under cloud, and of its pixels that are valid."""

    view: survey.View
    reading: Reading
    image: str
    cloud: float
    usable: float


def export(
    files: Sequence[str], scene_folder: str, table: str, reservoirs: str, readings: str, folder: str, config: LevelChipsConfig, *,
    dropped_csv: str = "", progress: Progress = silent,
) -> tuple[Manifest, list[Dropped]]:  # fmt: skip
    """Cut one chip per reservoir and date that has a scene and a gauge reading, into `folder`, which appears whole or not at all; an older
    chips folder of ours is replaced.

    `files`, `scene_folder`, `table`: the scenes, see `scenes.gather`; `reservoirs`: polygon layer; `readings`: gauge table. Returns the manifest
    and what was left out; `dropped_csv` gets that as a table, also when too little is left to go on. Raises `ConfigError`, `LabelError`,
    `RasterError`, `ChipsError`, `OutputError`.
    """
    split.check(config)
    apart((dropped_csv,), (*files, table, reservoirs, readings))
    catalogue.existing(folder, False, "level")
    job = _Job(config, progress)
    try:
        manifest = job.run(files, scene_folder, table, reservoirs, readings, folder)
    except (ConfigError, ChipsError, RasterError):
        if dropped_csv and job.dropped:
            with suppress(OutputError):  # the error that matters is already on its way
                left_out.write(dropped_csv, job.dropped)
        raise
    if dropped_csv:
        left_out.write(dropped_csv, job.dropped)
    for line in left_out.counts(job.dropped):
        progress(1, line)
    return manifest, job.dropped


class _Job:
    """One export: what is known so far, and what was left out."""

    def __init__(self, config: LevelChipsConfig, progress: Progress):
        self.config, self.progress = config, progress
        self.dropped: list[Dropped] = []
        self.kept: list[_Kept] = []
        self.unmarked: set[str] = set()  # optical scenes without a quality band
        self.blind: list[bool] = []  # has QA60 marked anything, in the years that it was empty?

    def run(self, files, scene_folder: str, table: str, reservoirs: str, readings: str, folder: str) -> Manifest:
        config, progress = self.config, self.progress
        found = sites.read(reservoirs, config.name_field, config.datum_field, progress)
        levels = self._noted(gauge.read(readings, config, part(progress, 0, 0.03)))
        listed = self._noted(scenes.gather(files, scene_folder, table, config, part(progress, 0.03, 0.1)))
        self.sensor = scenes.one_sensor(listed)
        if len({s.when.date() for s in listed}) == 1:
            raise ConfigError(
                f"All scenes are of one day, {listed[0].when:%Y-%m-%d}.", "A level is learnt from a series: add scenes of other dates."
            )
        looks = self._noted(survey.look(listed, found, config, part(progress, 0.1, 0.2)))
        pairs = self._pairs(looks, levels, found)
        split.check(config, [pair.scene.when for pair in pairs])  # before the work
        used = {pair.scene.look.scene for pair in pairs}
        looks, self.like, odd = survey.alike([one for one in looks if one.scene in used], part(progress, 0.2, 0.2))
        self.dropped += odd
        self.places, self.frame = survey.places(looks, found, config)
        self.inside = {r.name: sites.inside(r, self.places[r.name]) for r in found if r.name in self.places}
        for line in survey.tell(self.places, self.frame, looks, self.inside):
            progress(0.2, line)
        self.sketches = [Sketch() for _ in self.like]
        with catalogue.Folder(folder, False) as place:
            self._cut(looks, pairs, place)
            self._enough()
            manifest = self._manifest([r for r in found if any(k.view.reservoir == r.name for k in self.kept)])
            os.rmdir(os.path.join(place.path, "labels"))  # chips.json tells the levels
            write_manifest(place.path, manifest)
            catalogue.write(place.path, manifest, (), 0, {
                "reservoir": [k.view.reservoir for k in self.kept], "level_m": [k.reading.level_m for k in self.kept], "cloud": [k.cloud for k in self.kept],
            })  # fmt: skip
        self._tell(manifest)
        return manifest

    def _noted(self, told: tuple) -> list:
        """Keep what was left out; give back the rest."""
        self.dropped += told[1]
        return told[0]

    def _pairs(self, looks: Sequence[survey.Look], levels: Sequence[Reading], found: Sequence[Reservoir]) -> list[match.Pair]:
        """Views of reservoirs, each with the gauge's reading of its day."""
        names = [r.name for r in found]
        series = self._noted(match.by_name(levels, names))
        own = [Reading(name, r.when, r.level_m, r.dated) for name, group in series.items() for r in group]
        for line in (*plausible.doubts(own, {r.name: r.datum_m for r in found if r.datum_m}), *_odd_datums(found, own)):
            self.progress(0.2, line)
        if len({r.when for r in own}) == 1:
            raise ConfigError(
                "The gauge table has readings of one time only.", "A level is learnt from a series: add readings of other dates."
            )
        views = [survey.View(one, name) for one in looks for name in one.shows if name in series]
        if not views:
            shown = sorted({name for one in looks for name in one.shows})
            raise ConfigError(
                f"The scenes show {', '.join(shown[:12])}, but the gauge table has readings of {', '.join(list(series)[:12])}.",
                "Add readings of the former, or scenes of the latter.",
            )
        pairs, dropped = match.match(views, own, names, self.config)
        self.dropped += [d for d in dropped if d.what == "scene"]  # the others were told by `by_name`
        return pairs

    def _cut(self, looks: Sequence[survey.Look], pairs: Sequence[match.Pair], place: catalogue.Folder) -> None:
        """Go over the scenes by time, each opened once; of two tiles of one pass the one that shows more of a reservoir is written."""
        wanted: dict = {}
        for pair in pairs:
            wanted.setdefault(pair.scene.look.scene, []).append(pair)
        waiting: dict[str, tuple[match.Pair, Cut]] = {}
        for number, one in enumerate(looks):
            progress = part(self.progress, 0.2 + 0.75 * number / len(looks), 0.2 + 0.75 * (number + 1) / len(looks))
            for pair, cut in self._cuts(one, wanted[one.scene], progress):
                before = waiting.get(pair.reservoir)
                if before and pair.scene.when - before[0].scene.when <= ONE_PASS:
                    worse, better = sorted((before, (pair, cut)), key=lambda c: (c[1].cover, -c[1].cloud))
                    self._drop("chip", worse[0].scene, "another scene of the same pass shows more of the reservoir")
                    waiting[pair.reservoir] = better
                else:
                    self._write(before, place)
                    waiting[pair.reservoir] = pair, cut
        for last in waiting.values():
            self._write(last, place)

    def _cuts(self, one: survey.Look, pairs: Sequence[match.Pair], progress: Progress):
        """(pair, chip) of all reservoirs on a scene; what can't be read is left out."""
        progress(0, "")
        try:
            bands = "" if set(self.like) <= set(one.names) else self.config.bands  # by name where it has them: its order may be another one
            with Opened(one.scene, bands, self.config.quality, self.like) as opened:
                for pair in pairs:
                    yield pair, opened.cut(self.places[pair.reservoir], self.inside[pair.reservoir], progress)
                    if not opened.quality and self.config.quality != "none" and self.sensor != "sentinel-1":
                        self.unmarked.add(one.scene.path)
                    if opened.quality and opened.quality.kind == "QA60" and _NO_QA60[0] <= one.scene.when < _NO_QA60[1]:
                        self.blind.append(opened.marked)
        except RasterError as error:
            self.dropped.append(Dropped("scene", os.path.basename(one.scene.path), "", one.scene.when, error.message))

    def _write(self, chip: Optional[tuple[match.Pair, Cut]], place: catalogue.Folder) -> None:
        """Write a chip if it shows enough."""
        if chip is None:
            return
        pair, cut = chip
        if cut.cover < self.config.min_cover / 100:
            self._drop("chip", pair.scene, f"the scene covers {100 * cut.cover:.0f} % of the reservoir")
        elif cut.cloud > self.config.max_cloud / 100:
            self._drop("chip", pair.scene, f"cloud or shadow hides {100 * cut.cloud:.0f} % of the reservoir")
        elif not cut.valid.any():
            self._drop("chip", pair.scene, "no pixel is valid")
        else:
            image = f"images/{len(self.kept):09d}.tif"
            write_small(place.new(image), cut.pixels, self.places[pair.reservoir], cut.valid[0], names=self.like)
            for sketch, plane, ok in zip(self.sketches, cut.pixels, cut.valid):
                sketch.update(plane[ok])
            self.kept.append(_Kept(pair.scene, pair.reading, image, round(cut.cloud, 4), round(float(cut.valid.mean()), 4)))

    def _drop(self, what: str, view: survey.View, reason: str) -> None:
        self.dropped.append(Dropped(what, os.path.basename(view.path), view.reservoir, view.when, reason))

    def _enough(self) -> None:
        """Raise `ChipsError` for a series that nothing can be learnt from."""
        if len(self.kept) < FEWEST:
            reasons = "; ".join(
                line.replace("Left out: ", "").rstrip(".") for line in left_out.counts([d for d in self.dropped if d.what != "reading"], 4)
            )
            raise ChipsError(
                f"{len(self.kept) or 'No'} chip(s) are left; at least {FEWEST} are needed. {reasons}.",
                "Raise MAX_CLOUD, TOLERANCE or lower MIN_COVER, whichever these reasons name, or add scenes.",
            )
        if len({k.view.when.date() for k in self.kept}) == 1:
            raise ChipsError("All chips are of one day.", "A level is learnt from a series: add scenes of other dates.")
        levels = {name: [k.reading.level_m for k in self.kept if k.view.reservoir == name] for name in self.places}
        if all(max(group) - min(group) < _SAME for group in levels.values() if group):
            raise ChipsError(
                "All levels are alike: there is nothing to learn.",
                "Check the gauge's column of levels and its unit, or take a longer series.",
            )

    def _manifest(self, found: Sequence[Reservoir]) -> Manifest:
        config, kept = self.config, self.kept
        told = split.assign([k.view.when for k in kept], [k.view.reservoir for k in kept], [k.reading.level_m for k in kept], config)
        looks = list(dict.fromkeys(k.view.look.scene for k in kept))
        number = {scene: i for i, scene in enumerate(looks)}
        grids = {k.view.look.scene: k.view.look.grid for k in kept}
        sources = []
        for i, scene in enumerate(looks):
            self.progress(0.95 + 0.04 * i / len(looks), "")
            grid = grids[scene]
            sources.append(
                {
                    "name": os.path.basename(scene.path),
                    "hash": catalogue.fingerprint(scene.path),
                    "crs": grid.crs,
                    "epsg": catalogue.epsg(grid),
                }
            )
        chips = []
        for k, which, held in zip(kept, told.part, told.held):
            place = self.places[k.view.reservoir]
            corners = tuple(tuple(map(float, c)) for c in moved(place.corners, place.crs, k.view.look.grid.crs))
            chips.append(Chip(
                k.image, None, which, number[k.view.look.scene], 0.0, iso(k.view.when), round(1 - k.usable, 4), (k.usable,),
                k.reading.level_m, corners, k.view.reservoir, held,
            ))  # fmt: skip
        first = self.places[found[0].name]
        places = [{"name": r.name, "datum_m": r.datum_m, **_grid(self.places[r.name])} for r in found]
        return Manifest(
            task="level", bands=tuple({"name": name, "unit": "", "dtype": "float32"} for name in self.like), classes=(), tile_size=self.frame.size,
            chips=tuple(chips), stride=self.frame.size, pixel_size=first.pixel_size, pixel_size_m=first.pixel_size_m,
            statistics=tuple(s.summary() for s in self.sketches), sources=tuple(sources), settings=config.to_json(), seed=config.seed,
            target={"name": "level", "unit": "m", "sensor": self.sensor, "reservoirs": places, "repeats": told.repeats},
        )  # fmt: skip

    def _tell(self, manifest: Manifest) -> None:
        """The result in words, and what may spoil it."""
        for place in manifest.target["reservoirs"]:
            own = [c for c in manifest.chips if c.place == place["name"]]
            levels, dates = [c.value for c in own], sorted(c.date[:10] for c in own)
            parts = ", ".join(f"{n} {p}" for p in PARTS if (n := sum(c.split == p for c in own)))
            self.progress(
                1,
                f"{place['name']}: {len(own)} chips ({parts}) from {dates[0]} to {dates[-1]}, levels {min(levels):.2f} to {max(levels):.2f} m.",
            )
            if max(levels) - min(levels) < _SAME:
                self.progress(1, f"Warning: all levels of {place['name']} are alike.")
        told = {c.place for c in manifest.chips}
        for name in self.places:
            if name not in told:
                self.progress(1, f"Warning: no chip of {name} is left.")
        if self.config.validation_share and not any(c.split == "validation" for c in manifest.chips):
            self.progress(1, "Warning: no chip validates. Raise the share, or choose another split.")
        if self.unmarked:
            self.progress(
                1,
                f"Warning: {len(self.unmarked)} scenes have no quality band (QA60, SCL, QA_PIXEL, UDM2): clouds in them are not known, and are learnt from. Set QUALITY to none if there are none.",
            )
        if len(self.blind) >= 5 and not any(self.blind):
            self.progress(
                1, f"Warning: QA60 marks no cloud in any of {len(self.blind)} chips from {_NO_QA60[0]:%Y-%m-%d} to {_NO_QA60[1]:%Y-%m-%d}, when it was empty. Use SCL."
            )  # fmt: skip


def _grid(grid) -> dict:
    return {"crs": grid.crs, "transform": [float(v) for v in grid.transform], "width": grid.width, "height": grid.height}


def _odd_datums(found: Sequence[Reservoir], readings: Sequence[Reading]) -> list[str]:
    """Warnings about datums that can't be on the gauge's scale."""
    lines = []
    for reservoir in found:
        levels = [r.level_m for r in readings if r.reservoir == reservoir.name]
        if reservoir.datum_m is None or not levels:
            continue
        middle, spread = float(np.median(levels)), max(levels) - min(levels)
        if reservoir.datum_m > max(levels) or abs(middle - reservoir.datum_m) > 20 * max(spread, 5.0):
            lines.append(
                f"Warning: the datum of {reservoir.name} is {reservoir.datum_m:g} m, its levels are {min(levels):.2f} to {max(levels):.2f} m. "
                "Are both in m above the same zero?"
            )
    return lines
