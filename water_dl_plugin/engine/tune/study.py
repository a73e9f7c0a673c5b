"""The SQLite file of a search: which trials there are, and what Optuna proposes next.

Trials have a *place*, 1 to the number asked for. What is proposed for a place depends on the seed, the place and what is known by then,
and on nothing else: a study that goes on after a kill proposes what it would have proposed. A trial that was broken off (Cancel, a kill, the
time limit) has no place any more; it is begun anew.

Proposals: tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24; as in Optuna, Akiba et al. 2019, 10.1145/3292500.3330701),
after ten trials by chance. Early end of poor trials: the median rule (Golovin et al. 2017, 10.1145/3097983.3098043). Importance: PED-ANOVA
(Watanabe et al. 2023, 10.24963/ijcai.2023/488).
"""

from __future__ import annotations

import math
import os
import sqlite3
import warnings
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from ..errors import ConfigError, OutputError
from ..writer import writable
from .space import Range, Space

NAME = "Water DL"
FIRST_BY_CHANCE = 10
_PROPOSALS = 31  # stream of chance
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_WORDS = {
    "chips": "the chips", "architecture": "the network", "space": "the settings to search", "fixed": "the fixed settings", "epochs": "the epochs per trial",
    "seed": "the seed", "monitor": "the monitored figure",
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A trial that is over. `state` is "complete", "pruned" (given up early) or "failed"; `figure` is the best of its epochs, and the best
    so far for a pruned one, NaN for a failed one; `course` holds (epoch, best figure so far); `why` it failed."""

    number: int
    state: str
    values: dict
    figure: float
    epoch: Optional[int] = None
    course: list = field(default_factory=list)
    seconds: float = math.nan
    why: str = ""


class Study:
    """One search in one file, open for one process. A context; errors of the file become `OutputError`."""

    def __init__(self, path: str, identity: dict, space: Space, lower_is_better: bool, epochs: int, pruning: bool):
        """Begin a study, or go on with the one that is there. Raises `ConfigError` if that is of another search, or in use."""
        writable(path)
        self.path, self.space, self.lower_is_better = path, space, lower_is_better
        self._axes = {name: _distribution(axis) for name, axis in space.items()}
        self._seed = identity["seed"]
        self._running: dict[int, optuna.Trial] = {}
        self._lock = _lock(path)
        try:
            with _quiet(), _told(path):
                fresh = _is_new(path)
                self._storage = optuna.storages.RDBStorage(
                    "sqlite:///study",  # the path itself is given to sqlite3: in an address, '?' and '%' would mean something
                    engine_kwargs={"creator": lambda: sqlite3.connect(path, check_same_thread=False), "poolclass": StaticPool},
                )
                # the first trials of chance must not prune: they are few, and the defaults are among them
                pruner = optuna.pruners.MedianPruner(4, max(1, round(0.2 * epochs))) if pruning else optuna.pruners.NopPruner()
                self._study = optuna.create_study(
                    storage=self._storage, study_name=NAME, load_if_exists=True, pruner=pruner, direction="minimize" if lower_is_better else "maximize"
                )  # fmt: skip
                if fresh or "search" not in self._study.user_attrs:
                    self._study.set_user_attr("search", identity)
                self._check(identity)
                self._break_off_stale()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        if hasattr(self, "_storage"):
            self._storage.remove_session()
            self._storage.engine.dispose()
        _unlock(self._lock, self.path)

    def _check(self, identity: dict) -> None:
        found = self._study.user_attrs["search"]
        other = [k for k in identity if found.get(k) != identity[k]]
        if other:
            told = [_WORDS[k] + ("" if k in ("chips", "space") else f" ({found.get(k)}, now {identity[k]})"[:120]) for k in other]
            raise ConfigError(
                f"The study {self.path} is of another search. Not the same: {', '.join(told)}.",
                "Choose another study file; or the same chips and settings as then, to go on with it.",
            )

    def _break_off_stale(self) -> None:
        """Nobody else has the study: what runs or waits in it was left by a run that was killed."""
        while any(t.state == TrialState.WAITING for t in self._study.get_trials(deepcopy=False)):
            self._study.ask()
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)

    def next_place(self, asked: int) -> Optional[int]:
        """The first place, 1 to `asked`, without a trial that is over or runs."""
        taken = {t.number for t in self.trials()} | set(self._running)
        return next((k for k in range(1, asked + 1) if k not in taken), None)

    def propose(self, place: int, first: dict) -> dict[str, Any]:
        """Values for the trial of a place, which runs from now on; the first one gets the values `first`."""
        chance = int(np.random.SeedSequence([self._seed, _PROPOSALS, place]).generate_state(1)[0])
        with _quiet(), _told(self.path):
            self._study.sampler = optuna.samplers.TPESampler(seed=chance, n_startup_trials=FIRST_BY_CHANCE, constant_liar=True)
            if place == 1:
                self._study.enqueue_trial(first)
            self._running[place] = self._study.ask(self._axes)
            return dict(self._running[place].params)

    def report(self, place: int, epoch: int, figure: float) -> bool:
        """Note the best figure after an epoch; True if the trial had better end."""
        with _quiet(), _told(self.path):
            self._running[place].report(figure, epoch)
            return self._running[place].should_prune()

    def end(self, place: int, state: str, figure: float = math.nan, **facts) -> None:
        """Close a trial; `facts` are the fields epoch, seconds and why of `Trial`."""
        trial = self._running.pop(place)
        with _quiet(), _told(self.path):
            for key, value in facts.items():
                trial.set_user_attr(key, value)
            trial.set_user_attr("place", place)
            wanted = next(k for k, name in _STATES.items() if name == state)
            self._study.tell(trial, figure if state == "complete" else None, state=wanted)

    def break_off(self, place: int) -> None:
        """The trial was not let finish: its place is free again."""
        trial = self._running.pop(place)
        with _quiet(), _told(self.path):
            self._study.tell(trial, state=TrialState.FAIL)

    def trials(self) -> list[Trial]:
        """All that are over, by number."""
        with _quiet(), _told(self.path):
            found = [t for t in self._study.get_trials(deepcopy=False) if t.state in _STATES and "place" in t.user_attrs]
        return sorted((self._trial(t) for t in found), key=lambda t: t.number)

    def best(self) -> Optional[Trial]:
        """The complete trial with the best figure, the earliest of those alike; None if none is complete."""
        sign = 1 if self.lower_is_better else -1
        return min((t for t in self.trials() if t.state == "complete"), key=lambda t: (sign * t.figure, t.number), default=None)

    def _trial(self, t) -> Trial:
        facts = t.user_attrs
        figure = t.value if t.state != TrialState.FAIL and t.value is not None else math.nan
        return Trial(
            facts["place"], _STATES[t.state], dict(t.params), figure, facts.get("epoch"), sorted(t.intermediate_values.items()),
            facts.get("seconds", math.nan), facts.get("why", ""),
        )  # fmt: skip

    def importances(self) -> dict[str, float]:
        """Share of each setting in what tells the good trials from the others, the largest first; {} for too few trials to say.

        Trials that were given up early count with their best figure so far: without them, what made them poor would not show.
        """
        told = [t for t in self.trials() if t.state != "failed"]
        if len(told) < FIRST_BY_CHANCE or len(self.space) < 2:
            return {}
        with _quiet():
            copy = optuna.create_study(direction="minimize" if self.lower_is_better else "maximize")
            copy.add_trials(optuna.trial.create_trial(params=t.values, distributions=self._axes, value=t.figure) for t in told)
            judge = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=min(max(5 / len(told), 0.1), 0.5))
            found = optuna.importance.get_param_importances(copy, evaluator=judge)
        return {k: float(v) for k, v in found.items() if math.isfinite(v)}


def _distribution(axis):
    if not isinstance(axis, Range):
        return optuna.distributions.CategoricalDistribution(axis)
    kind = optuna.distributions.IntDistribution if isinstance(axis.low, int) else optuna.distributions.FloatDistribution
    return kind(axis.low, axis.high, log=axis.log)


def _is_new(path: str) -> bool:
    """False if the file is a study. Raises `ConfigError` for a file that is something else: Optuna would put its tables into any database."""
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return True
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as file:
            tables = {row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            names = [row[0] for row in file.execute("SELECT study_name FROM studies")] if "studies" in tables else []
    except sqlite3.DatabaseError:
        tables, names = {""}, []
    if (tables - {"studies"} and "version_info" not in tables) or any(n != NAME for n in names):
        raise ConfigError(f"{path} is no study of Water DL.", "Choose another file: it is left as it is.")
    return not names


@contextmanager
def _quiet():
    """Optuna says nothing of its own: a log line per trial comes from us, and in QGIS on Windows there may be no stderr to write to."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    optuna.logging.disable_default_handler()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.enable_default_handler()
        optuna.logging.set_verbosity(before)


@contextmanager
def _told(path: str):
    """What goes wrong with the file, with a remedy."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        said = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        raise OutputError(
            f"The study {path} can't be used: {said}.", "See whether the disk is full or the file damaged; or choose another study file."
        ) from error
    except RuntimeError as error:
        if "optuna" not in str(error).lower() and "alembic" not in str(error).lower():
            raise
        raise ConfigError(f"The study {path} was made with another version of Optuna.", "Choose another study file.") from error


def _lock(path: str):
    """Hold a study for this process; the system lets go when it ends, however it ends. Raises `ConfigError` if another one holds it."""
    held = sqlite3.connect(path + ".lock", timeout=0, isolation_level=None, check_same_thread=False)
    try:
        held.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        held.close()
        if "locked" not in str(error):
            raise OutputError(f"The study {path} can't be used: {error}.", "Choose a folder on a disk of this computer.") from None
        raise ConfigError(f"The study {path} is in use by another search.", "Wait for it to end, or choose another study file.") from None
    return held


def _unlock(held, path: str) -> None:
    held.close()
    with suppress(OSError):  # somebody else waits for it: it is theirs now
        os.remove(path + ".lock")
