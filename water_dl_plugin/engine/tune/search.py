"""Chips folder -> the best settings of training, found by trying."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from .. import tasks
from ..chips import ChipSet, with_validation
from ..errors import Cancelled, ChipsError, ConfigError, TrainingError
from ..nets import TRAINERS
from ..progress import Progress, silent
from ..settings import TrainConfig, TuneConfig
from ..tables import write_json
from ..train import fitting, stages
from ..trainer import clock
from ..writer import writable
from . import machine, space
from .pool import Pool, Worker
from .report import tune_report
from .study import Study, Trial

GIVE_UP = 5  # so many failures, and nothing else: the settings, the chips or the machine are at fault


@dataclass
class Search:
    """What a search came to; the report is made from it. `settings` is what Train model takes."""

    title: str
    monitor: str
    lower_is_better: bool
    space: space.Space
    start: TrainConfig
    config: TuneConfig
    epochs: int
    trials: list[Trial] = field(default_factory=list)
    best: Optional[Trial] = None
    settings: dict = field(default_factory=dict)
    importances: dict = field(default_factory=dict)
    facts: list = field(default_factory=list)


def tune(
    folder: str, output: str, config: TuneConfig, progress: Progress = silent, study: str = "", report: str = "", python: str = sys.executable
) -> Search:  # fmt: skip
    """Search settings of training for a chips folder; write the best ones to `output` (JSON that `TrainConfig.from_json` takes), the
    trials to `study` (SQLite; empty: kept only while the search runs) and, if named, the report.

    `output` holds the network, the fixed settings and those searched, and nothing else: the number of epochs, device and threads stay
    the affair of the final training. `python`: the program that trains (it needs the packages that we see).

    Raises `ConfigError`, `ChipsError`, `OutputError`; `TrainingError` if no trial came to an end; `Cancelled`, after the best so far is written.
    """
    for path in filter(None, (output, report)):
        writable(path)
    chips = ChipSet(folder)
    start = space.base(config)
    manifest = with_validation(chips.manifest, start.validation_share, config.seed)
    parts = {name: sum(c.split == name for c in manifest.chips) for name in ("train", "validation")}
    if not parts["train"] or not parts["validation"]:
        raise ChipsError("A search needs chips to train with and chips to validate with.", "Export again with a share for validation.")
    if not any(c.split == "validation" for c in chips.manifest.chips):
        progress(0, "Warning: The chips folder sets no chips apart for validation: some are drawn at random. Neighbours may leak.")
    task = tasks.make(manifest)
    start = fitting(start, task)
    if start.architecture in TRAINERS and not getattr(task, "classes", None):
        raise ConfigError(f"{start.architecture} gives each pixel a class; these chips are for another task.", "Choose a network.")
    elevations = getattr(task, "arguments", {}).get("elevations", ())
    chosen = space.make(config, start, task, len(manifest.bands), parts["train"], len(elevations) == len(manifest.bands))
    monitor = start.monitor or getattr(task, "searched", task.monitor)
    lower = monitor == "loss" or monitor in task.lower_is_better
    identity = {
        "chips": _hash(chips), "architecture": start.architecture, "space": space.to_json(chosen), "fixed": space.fixed(config), "epochs": config.epochs,
        "seed": config.seed, "monitor": monitor,
    }  # fmt: skip
    epochs = 0 if start.architecture in TRAINERS else sum(s.epochs for s in stages(start))
    name = os.path.basename(os.path.normpath(folder))
    found = Search(f"Search for settings of {start.architecture} on {name}", monitor, lower, chosen, start, config, epochs)
    with (
        Pool(python) as pool,
        Study(study or os.path.join(pool.home, "study.sqlite"), identity, chosen, lower, epochs, config.pruning) as kept,
    ):
        course = _Course(pool, kept, found, folder, progress)
        try:
            course.run()
        except Cancelled:
            _finish(found, kept, output, report, course.started)
            if found.best is None:
                raise Cancelled("Cancelled before the first trial came to an end.") from None
            raise Cancelled(f"Cancelled. The best settings so far (trial {found.best.number}) are in {output}.") from None
        _finish(found, kept, output, report, course.started)
    if found.best is None:
        reasons = [t.why for t in found.trials if t.why]
        raise TrainingError(
            f"No trial came to an end{f': {len(reasons)} failed, the first one because: {reasons[0]}' if reasons else '.'}",
            "Mend that, or fix the setting that causes it." if reasons else "Raise the time limit, or take fewer epochs per trial.",
        )
    progress(1, f"Best: trial {found.best.number}, {monitor} {found.best.figure:.4f}, with {_words(found.best.values)}.")
    return found


class _Course:
    """The search itself: trials are proposed, given to workers, and listened to."""

    def __init__(self, pool: Pool, study: Study, found: Search, folder: str, progress: Progress):
        self.pool, self.study, self.found, self.folder, self.progress = pool, study, found, os.path.abspath(folder), progress
        self.config, self.started, self.failures = found.config, time.time(), 0
        self.done = len(study.trials())
        self.left = max(self.config.trials - self.done, 0)
        self.most = machine.trials_at_once(self.config.parallel, self.left)
        self.threads, self.undecided = self._share(self.most), not self.config.parallel
        self.allowed = 1 if self.undecided else self.most  # the first one shows how much memory a trial takes

    def run(self) -> None:
        if self.done:
            self.progress(self._fraction(), f"Going on with a study of {self.done} trials.")
        if self.left:
            self.progress(
                self._fraction(), f"{self.left} trials over {', '.join(self.found.space)}. All train with seed {self.config.seed}."
            )
        try:
            while True:
                self._give_work()
                if not any(w.trial for w in self.pool.workers):
                    return
                heard = self.pool.hear(0.2)
                self.progress(self._fraction(), "")
                if self.config.time_limit and time.time() - self.started > 60 * self.config.time_limit:
                    self.progress(self._fraction(), f"The time limit of {self.config.time_limit:g} min is reached.")
                    return
                if heard is not None:
                    self._understand(*heard)
        finally:
            for worker in self.pool.workers:
                if worker.trial is not None:
                    self.study.break_off(worker.trial)

    def _give_work(self) -> None:
        if self.failures >= GIVE_UP and all(t.state == "failed" for t in self.study.trials()):
            return
        while (place := self.study.next_place(self.config.trials)) is not None:
            free = next((w for w in self.pool.workers if w.trial is None), None)
            if free is None:
                if len(self.pool.workers) >= self.allowed:
                    return
                free = self.pool.hire()
            values = self.study.propose(place, space.defaults(self.found.space, self.found.start))
            free.trial, free.fraction = place, 0.0
            settings = replace(self.found.start, **values, threads=self.threads).to_json()
            free.tell({
                "folder": self.folder, "output": os.path.join(free.home, "trial", "model.onnx"), "config": settings,
                "monitor": "loss_valid" if self.found.monitor == "loss" else self.found.monitor, "sign": 1 if self.found.lower_is_better else -1,
            })  # fmt: skip

    def _understand(self, worker: Worker, said: Any) -> None:
        if worker.trial is None:  # it has died while it had nothing to do
            self.pool.dismiss(worker)
        elif said is None:
            self._end(worker, {"end": "failed", "why": worker.last_words(), "spent": True})
        elif "fraction" in said:
            worker.fraction = said["fraction"]
        elif "end" in said:
            self._end(worker, said)
        else:
            worker.fraction = said["epoch"] / self.found.epochs
            poor = said["best"] is not None and self.study.report(worker.trial, said["epoch"], said["best"])
            worker.tell("stop" if poor and said["epoch"] < self.found.epochs else "go")
        if self.undecided and said is not None and "memory" in said:
            self._decide(said)

    def _end(self, worker: Worker, said: dict) -> None:
        place, worker.trial, worker.fraction = worker.trial, None, 0.0
        facts = {k: said[k] for k in ("epoch", "seconds", "why") if said.get(k) is not None}
        self.study.end(place, said["end"], said.get("figure", math.nan), **facts)
        self.done += 1
        if said["end"] == "failed":
            self.failures += 1
            if said.get("spent"):
                self.pool.dismiss(worker)
            self.progress(self._fraction(), f"Warning: Trial {place} failed: {said['why']}")
            return
        trial = next(t for t in self.study.trials() if t.number == place)
        best = self.study.best()
        end = f"given up after {len(trial.course)} epochs" if trial.state == "pruned" else ""
        mark = (
            "the best so far"
            if best is not None and best.number == place
            else f"best {best.figure:.4f} (trial {best.number})"
            if best
            else ""
        )
        told = "  ".join(filter(None, (end, mark, clock(trial.seconds), _words(trial.values) + (" (the defaults)" if place == 1 else ""))))
        self.progress(self._fraction(), f"Trial {place} of {self.config.trials}: {self.found.monitor} {trial.figure:.4f}  {told}")

    def _decide(self, said: dict) -> None:
        """How many may run at once, now that it is known what one takes."""
        room = machine.room_for(said["memory"], machine.free_memory())
        if "gpu" in said:
            room = min(room, machine.room_for(said["gpu"], said["gpu_free"]))
        self.allowed, self.undecided = min(self.most, 1 + room), False
        self.threads = self._share(self.allowed)
        if self.most > 1:
            less = "" if self.allowed == self.most else "; there is no room for more"
            self.progress(self._fraction(), f"Trials at once: {self.allowed}. One takes {said['memory'] / 1e9:.1f} GB{less}.")

    def _share(self, number: int) -> int:
        return max(1, (self.config.threads or machine.processors()) // number)

    def _fraction(self) -> float:
        return min((self.done + sum(w.fraction for w in self.pool.workers)) / max(self.config.trials, 1), 1.0)


def _finish(found: Search, study: Study, output: str, report: str, started: float) -> None:
    found.trials, found.best, found.importances = study.trials(), study.best(), study.importances()
    if found.best is None:
        return
    found.settings = {"architecture": found.start.architecture, **space.fixed(found.config), **found.best.values}
    TrainConfig.from_json(found.settings)
    write_json(output, found.settings)
    spent = sum(t.seconds for t in found.trials if math.isfinite(t.seconds))
    found.facts = [("Training in all", clock(spent)), ("This run", clock(time.time() - started))]
    if report:
        tune_report(report, found)


def _hash(chips: ChipSet) -> str:
    """Tells one chips folder from another, wherever it lies: its manifest, and the sizes of its files."""
    sizes = [os.path.getsize(chips.path(p)) for c in chips.manifest.chips for p in (c.image, c.label) if p]
    return hashlib.sha256(json.dumps([chips.manifest.to_json(), sizes], sort_keys=True).encode()).hexdigest()[:16]


def _words(values: dict) -> str:
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
