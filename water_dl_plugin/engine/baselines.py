"""Random forest and support vector machines on single pixels, the baselines that papers compare networks with.

scikit-learn trains them on pixels drawn from the training chips, alike many of each class, and what they give is turned into probabilities for classes as
frequent as in the chips; `pixel_graph` writes them as ONNX, so that they are mapped, shown and
assessed like any model. Random forest: Breiman 2001, 10.1023/A:1010933404324. Support vector machines with a radial basis function: Cortes and
Vapnik 1995, 10.1007/BF00994018; their probabilities by Platt's method (1999) on pixels that were not trained with.
"""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillAtWork
from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np
import sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from . import bundle, normalise, onnx_export, pixel_graph
from .errors import ChipsError, ConfigError, ModelError
from .normalise import Normalisation
from .progress import Progress, part, silent
from .samples import Samples
from .trainer import Run, Trainer, clock

_PIXELS, _HELD = 21, 5  # stream of chance; one in five pixels is held out for Platt's method
SVM_PIXELS = 20_000  # of all classes: the time of training grows with their square, that of mapping with their number
AGREED = 0.999  # share of pixels in which ONNX Runtime must give what scikit-learn gives
_SPEED_PIXELS = 2**17


@dataclass(frozen=True)
class Drawn:
    """Pixels to learn from, in random order: `rows` float32 `(n, bands)`, `index` of class `(n,)`, `counts` of all there are `(classes,)`."""

    rows: np.ndarray
    index: np.ndarray
    counts: np.ndarray

    def factors(self, classes: Optional[list[float]]) -> np.ndarray:
        """For each class: how many pixels one of the drawn stands for, times the class' weight; mean 1."""
        factors = self.counts / np.maximum(np.bincount(self.index, minlength=len(self.counts)), 1) * (1 if classes is None else classes)
        return factors / factors.mean()


def draw(samples: Samples, normalisation: Normalisation, classes: int, most: int, seed: int, progress: Progress = silent) -> Drawn:
    """At most `most` pixels of each class, each pixel of the chips with the same chance; nodata in any band and unlabelled ones left out.

    One pass, in the memory of what is kept: every pixel gets a random number, the smallest ones of each class stay.
    """
    rng = np.random.default_rng([seed, _PIXELS])
    kept = [(np.empty(0), np.empty((0, len(normalisation.bands)), np.float32)) for _ in range(classes)]
    counts = np.zeros(classes, np.int64)
    for i in range(len(samples)):
        progress(i / len(samples), "")
        pixels, valid, target = samples.raw(i)
        numbers = rng.random(target.shape)
        usable, values = valid.all(axis=0), None
        for c, (smallest, rows) in enumerate(kept):
            here = usable & (target == c)
            counts[c] += np.count_nonzero(here)
            if len(smallest) == most:
                here &= numbers < smallest[-1]
            if not here.any():
                continue
            values = normalisation.apply(pixels, valid) if values is None else values
            smallest, rows = np.concatenate([smallest, numbers[here]]), np.concatenate([rows, values[:, here].T])
            order = np.argsort(smallest, kind="stable")[:most]
            kept[c] = smallest[order], rows[order]
    order = np.argsort(np.concatenate([numbers for numbers, _ in kept]), kind="stable")
    index = np.repeat(np.arange(classes), [len(numbers) for numbers, _ in kept])
    return Drawn(np.concatenate([rows for _, rows in kept])[order], index[order], counts)


class PixelTrainer(Trainer):
    """What forest and machines share. A subclass has `fit`, `predict`, `graph`, and `tolerance` between the last two."""

    def __post_init__(self):
        super().__post_init__()
        config, name = self.config, self.config.architecture
        if not getattr(self.task, "classes", None) or not self.task.spatial:
            raise ConfigError(
                f"{name} gives each pixel a class; these chips are for the task {self.chips.manifest.task}.", "Choose a network."
            )
        for value, label in ((config.initial_weights, "Start from"), (config.stages.strip(), "Stages")):
            if value:
                raise ConfigError(f"'{label}' is for networks; {name} can't use it.", "Leave it empty, or choose a network.")
        self.classes = len(self.task.classes)
        self.channels = [1] if self.task.channels == 1 else list(range(self.classes))  # the class that each channel is about
        self.threads = config.threads or os.cpu_count() or 1

    def most(self) -> int:
        """Pixels to draw from each class."""
        return self.config.pixels_per_class

    def fit(self, drawn: Drawn, progress: Progress) -> None:
        raise NotImplementedError

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """`(n, bands)` -> probabilities `(n, channels)` among pixels as they were drawn, by scikit-learn, in float64."""
        raise NotImplementedError

    def graph(self) -> tuple[list, list]:
        """Nodes and constants, see `pixel_graph`."""
        raise NotImplementedError

    def run(self) -> Run:
        started, config, progress = time.time(), self.config, self.progress
        progress(
            0,
            f"{config.architecture} looks at single pixels: epochs, batch size, loss, encoder and the like are for networks and not used.",
        )
        scheme = normalise.fit(config.normalisation, self.learn.sketches(part(progress, 0, 0.1)))
        drawn = draw(self.learn, scheme, self.classes, self.most(), config.seed, part(progress, 0.1, 0.2))
        names = [c.name for c in self.task.classes]
        there = np.bincount(drawn.index, minlength=self.classes)
        progress(0.2, f"Pixels to learn from: {', '.join(f'{n} of {all_} {name}' for n, all_, name in zip(there, drawn.counts, names))}.")
        if np.count_nonzero(there) < 2:
            raise ChipsError(
                "The training chips hold labelled pixels of fewer than two classes.", "Export chips that show at least two classes."
            )
        self.factors = drawn.factors(self._weights())
        self.fit(drawn, part(progress, 0.2, 0.8))
        window = self.chips.manifest.tile_size if config.portable else 0
        graph = pixel_graph.image_model(*self.graph(), self.factors, scheme, window)
        session = _session(graph, config.threads)
        outside = onnx_export.outside(scheme, config.portable)

        def predict(pixels, valid):
            return session(outside.apply(pixels, valid)[None])[0]

        self._agree(predict, scheme)
        evaluator, figures = self._evaluate(predict, part(progress, 0.8, 1))
        monitor = config.monitor or self.task.monitor
        if len(self.check) and monitor not in figures:
            raise ConfigError(f"There is no figure {monitor!r} to monitor.", f"Choose one of: {', '.join(sorted(figures))}.")
        info = self.info(outside, figures, pixels={name: int(n) for name, n in zip(names, there)})
        bundle.save(self.output, graph, info)
        old = bundle.weights_beside(self.output)
        if os.path.exists(old):
            progress(
                1,
                f"Warning: {os.path.basename(old)} beside the model file is of an older model; nothing can go on from {config.architecture}.",
            )
        taken = clock(time.time() - started)
        told = "  ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None)
        progress(1, f"{told or 'No chips to validate with.'}  {taken}. {self._speed(session, predict)}")
        facts = [("Pixels", f"{len(drawn.index):,}".replace(",", " ")), ("Time", taken)]
        run = self.told(predict, evaluator, facts, best_figure=figures.get(monitor, math.nan))
        if self.report:
            self.task.report(self.report, run)
        return run

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "scikit-learn": sklearn.__version__}

    def _weights(self) -> Optional[list[float]]:
        weights = self.class_weights()
        if weights is not None and not (len(weights) == self.classes and all(w > 0 and math.isfinite(w) for w in weights)):
            raise ConfigError(f"The class weights {weights} don't fit.", f"Give {self.classes} positive numbers, one per class.")
        return weights

    def _agree(self, predict: Callable, scheme: Normalisation) -> None:
        """ONNX Runtime must give what scikit-learn gives, on a few chips. (Where two float32 meet within a rounding error, a tree may turn.)"""
        shares = []
        for i in range(min(len(self.learn), 4)):
            pixels, valid, _ = self.learn.raw(i)
            rows = scheme.apply(pixels, valid).reshape(len(pixels), -1).T
            some = slice(None, None, -(-len(rows) // 1000))
            given = predict(pixels, valid)[-len(self.channels) :].reshape(len(self.channels), -1).T
            shares.append(np.mean(np.abs(given[some] - reweigh(self.predict(rows[some]), self.factors)) <= self.tolerance))
        if not np.mean(shares) >= AGREED:
            raise ModelError(
                f"The exported model differs from the trained one in {1 - np.mean(shares):.2%} of the pixels.",
                "Please report this with the output of diagnostics.",
            )

    def _evaluate(self, predict: Callable, progress: Progress):
        evaluator = self.task.evaluator()
        for i in range(len(self.check)):
            pixels, valid, target = self.check.raw(i)
            evaluator.update(predict(pixels, valid)[None], target[None])
            progress((i + 1) / len(self.check), "")
        return evaluator, evaluator.figures() if len(self.check) else {}

    def _speed(self, session: Callable, predict: Callable) -> str:
        """How long mapping takes here, measured: these models may be slower than a network."""
        pixels, valid, _ = self.learn.raw(0)
        started, done = time.perf_counter(), 0
        while done < _SPEED_PIXELS and time.perf_counter() - started < 2:
            done += predict(pixels, valid)[0].size
        rate = done / (time.perf_counter() - started)
        return f"Maps about {rate / 1e6:.2g} million pixels per second here: {clock(1e8 / rate)} for 10 000 x 10 000."


class ForestTrainer(PixelTrainer):
    """Random forest, fully grown trees."""

    tolerance = 1e-5
    _STEP = 10  # trees between two looks at Cancel

    def fit(self, drawn: Drawn, progress: Progress) -> None:
        config = self.config
        features = min(config.features_per_split, drawn.rows.shape[1])
        self.arguments = {"trees": config.trees, "features": features}
        self.forest = RandomForestClassifier(0, max_features=features, random_state=config.seed, n_jobs=self.threads, warm_start=True)
        while self.forest.n_estimators < config.trees:
            self.forest.n_estimators = min(self.forest.n_estimators + self._STEP, config.trees)
            self.forest.fit(drawn.rows, drawn.index)
            progress(self.forest.n_estimators / config.trees, "")
        known = list(self.forest.classes_)
        self._columns = [known.index(c) if c in known else None for c in self.channels]

    def predict(self, rows: np.ndarray) -> np.ndarray:
        votes = self.forest.predict_proba(rows)
        return np.stack([np.zeros(len(rows)) if c is None else votes[:, c] for c in self._columns], 1)

    def graph(self) -> tuple[list, list]:
        return pixel_graph.forest([tree.tree_ for tree in self.forest.estimators_], self._columns)


class MachinesTrainer(PixelTrainer):
    """A support vector machine with a radial basis function per class against the others (one for two classes)."""

    tolerance = 1e-3

    def __post_init__(self):
        super().__post_init__()
        if self.config.normalisation == "none":
            raise ConfigError("svm measures distances between pixels: bands must be brought to a common range.", "Choose a normalisation.")
        self.arguments = {"c": self.config.svm_c, "gamma": self.config.svm_gamma}

    def most(self) -> int:
        share = SVM_PIXELS // self.classes
        if self.config.pixels_per_class > share:
            self.progress(0.1, f"svm learns from at most {SVM_PIXELS} pixels in all, {share} per class.")
        return min(self.config.pixels_per_class, share)

    def fit(self, drawn: Drawn, progress: Progress) -> None:
        held = np.arange(len(drawn.index)) % _HELD == 0
        rows, place = drawn.rows.astype(np.float64), np.zeros(drawn.rows.shape[0], bool)
        coefficients = np.zeros((len(rows), len(self.channels)))
        self._slopes, self._shifts = np.zeros(len(self.channels)), np.full(len(self.channels), -30.0)  # a class without pixels: never
        self._machines = []
        for k, c in enumerate(self.channels):
            yes = drawn.index == c
            if not yes.any():
                continue
            tell = part(progress, k / len(self.channels), (k + 1) / len(self.channels))
            learn, judge = np.flatnonzero(~held), np.flatnonzero(held)
            if min(yes[judge].sum(), (~yes[judge]).sum(), yes[learn].sum(), (~yes[learn]).sum()) == 0:  # hardly a pixel: all for both
                learn = judge = np.arange(len(rows))
            machine = SVC(C=self.config.svm_c, gamma=self.config.svm_gamma, cache_size=500)
            _patiently(lambda m=machine, y=yes, at=learn: m.fit(rows[at], y[at]), tell)
            platt = LogisticRegression().fit(machine.decision_function(rows[judge])[:, None], yes[judge])
            coefficients[learn[machine.support_], k] = machine.dual_coef_[0]
            place[learn[machine.support_]] = True
            self._slopes[k] = platt.coef_[0, 0]
            self._shifts[k] = platt.intercept_[0] + platt.coef_[0, 0] * machine.intercept_[0]
            self._machines.append((k, machine, platt))
            tell(1, f"{int(place.sum())} support vectors")
        # The pixels are in random order, and so are the vectors: long sums of one sign would cost the float32 of the graph two digits.
        self._vectors, self._coefficients = rows[place], coefficients[place]

    def predict(self, rows: np.ndarray) -> np.ndarray:
        each = np.zeros((len(rows), len(self.channels)))
        for k, machine, platt in self._machines:
            each[:, k] = platt.predict_proba(machine.decision_function(rows.astype(np.float64))[:, None])[:, 1]
        return each

    def graph(self) -> tuple[list, list]:
        return pixel_graph.machines(self._vectors, self._coefficients, self.config.svm_gamma, self._slopes, self._shifts)


def reweigh(given: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Probabilities `(n, channels)` where each class is `factors` times as frequent as in the pixels learned from, sum 1 (the rule of Bayes;
    Saerens et al. 2002, 10.1162/089976602753284446). The graph does the same."""
    each = np.concatenate([1 - given, given], axis=1) if given.shape[1] == 1 else given
    each = each * factors
    return (each / np.maximum(each.sum(axis=1, keepdims=True), 1e-30))[:, -1 if given.shape[1] == 1 else 0 :]


def _patiently(work: Callable, progress: Progress) -> None:
    """Run `work` in a thread while Cancel is listened to. libsvm can't be stopped: after Cancel it ends by itself, unheard."""
    pool = ThreadPoolExecutor(1)
    try:
        future = pool.submit(work)
        while True:
            try:
                return future.result(timeout=0.2)
            except StillAtWork:
                progress(0, "")
    finally:
        pool.shutdown(wait=False)


def _session(graph: bytes, threads: int) -> Callable:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    onnxruntime.disable_telemetry_events()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"image": batch})[0]
