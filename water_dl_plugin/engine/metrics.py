"""Figures of a classification, from confusion matrices and probability histograms. numpy only, no files.

A matrix is `(n, n)` int64 with truth in rows and prediction in columns, in pixels. Matrices of windows, chips or scenes are merged by `+`.
What is undefined (0/0, e.g. the recall of a class that the truth doesn't hold) is NaN, and NaN is left out of means: never counted as 0.
"""

from __future__ import annotations

import numpy as np

from .errors import ConfigError, GridMismatchError, RasterError


def confusion(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Pixels per (truth, prediction), `(classes, classes)` int64.

    Both arrays hold class indices 0..classes-1 and have the same shape, any number of dimensions. A pixel whose truth is anything else
    is ignored. So is one whose prediction is anything else (nodata in the map): whoever must know how many, compares the matrix' sum
    with the labelled pixels. Raises `GridMismatchError` for different shapes, `TypeError` for arrays that are not of whole numbers.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise GridMismatchError(f"Truth is {truth.shape}, prediction is {prediction.shape} pixels.", "Bring both to the same grid first.")
    if truth.dtype.kind not in "iub" or prediction.dtype.kind not in "iub":
        raise TypeError(f"Class indices are whole numbers, not {truth.dtype} and {prediction.dtype}.")
    counted = (truth >= 0) & (truth < classes) & (prediction >= 0) & (prediction < classes)
    cell = truth[counted].astype(np.int64) * classes + prediction[counted].astype(np.int64)
    return np.bincount(cell, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def scores(matrix: np.ndarray) -> dict:
    """All figures of a confusion matrix as plain Python numbers, 0..1 (kappa and MCC -1..1), NaN where undefined.

    `accuracy`; `kappa` (Cohen 1960, doi:10.1177/001316446002000104); `mcc`, the Matthews correlation for several classes
    (Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006); `mean_iou` and `mean_dice` over the classes that truth or prediction holds;
    lists with one number per class: `recall` (producer's accuracy), `precision` (user's accuracy), `f1` (the same as dice), `iou`;
    `truth_pixels` and `predicted_pixels`. Where scikit-learn puts 0 for 0/0, here is NaN.
    """
    matrix = np.asarray(matrix)
    figures = {name: value.tolist() for name, value in _figures(matrix).items()}
    figures["truth_pixels"] = [int(value) for value in matrix.sum(axis=1)]
    figures["predicted_pixels"] = [int(value) for value in matrix.sum(axis=0)]
    return figures


def detection(matrix: np.ndarray, positive: int) -> dict:
    """Figures of one class against all others, as flood forecasters define them (Schaefer 1990).

    `pod` probability of detection = hits / (hits + misses); `far` false alarm *ratio* = false alarms / (hits + false alarms), not the
    false positive rate; `csi` critical success index = hits / (hits + misses + false alarms), the same as IoU;
    `bias` = predicted / true pixels, 1 is best. And the counts behind them. NaN where undefined.
    doi:10.1175/1520-0434(1990)005<0570:TCSIAA>2.0.CO;2
    """
    matrix = np.asarray(matrix)
    if not 0 <= positive < len(matrix):
        raise ConfigError(f"Class index {positive} is not in a matrix of {len(matrix)} classes.")
    hits = int(matrix[positive, positive])
    misses = int(matrix[positive].sum()) - hits
    false_alarms = int(matrix[:, positive].sum()) - hits
    return {
        "pod": _share(hits, hits + misses).item(),
        "far": _share(false_alarms, hits + false_alarms).item(),
        "csi": _share(hits, hits + misses + false_alarms).item(),
        "bias": _share(hits + false_alarms, hits + misses).item(),
        "hits": hits,
        "misses": misses,
        "false_alarms": false_alarms,
        "correct_negatives": int(matrix.sum()) - hits - misses - false_alarms,
    }


def bootstrap(matrices: np.ndarray, rng: np.random.Generator, repeats: int = 500, level: float = 0.95) -> dict:
    """Percentile intervals of the figures when whole sampling units are drawn anew (Efron 1979, doi:10.1214/aos/1176344552).

    `matrices` is `(units, n, n)`, one matrix per polygon, block or place: pixels of one polygon are neighbours, not independent, so an
    interval over pixels would be far too narrow. Gives `(low, high)` for `accuracy`, `kappa`, `mcc`, `mean_iou`, `mean_dice`, lists of
    them for `recall`, `precision`, `f1`, `iou`, and `units`, `repeats`, `level`. With fewer than two units all limits are NaN.
    """
    matrices = np.asarray(matrices, dtype=np.float64)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2]:
        raise ValueError(f"Expected (units, n, n), not {matrices.shape}.")
    units, classes = matrices.shape[:2]
    result: dict = {"units": units, "repeats": repeats, "level": level}
    if units < 2:
        drawn = np.zeros((1, classes, classes))  # gives NaN everywhere
    else:
        times = rng.multinomial(units, np.full(units, 1 / units), size=repeats)
        drawn = (times @ matrices.reshape(units, -1)).reshape(repeats, classes, classes)
    for name, values in _figures(drawn).items():
        low, high = _quantile(values, (1 - level) / 2), _quantile(values, (1 + level) / 2)
        result[name] = (low.item(), high.item()) if low.ndim == 0 else list(zip(low.tolist(), high.tolist()))
    return result


class ProbabilityCurve:
    """Histograms of the probability of pixels that are, and are not, of the class: all thresholds at once, in memory of a few kB.

    A pixel is of the class where `p >= threshold`. The thresholds are `k / bins`, k = 0..bins, and at these all figures are exact, not
    approximate: a bin holds `k / bins <= p < (k + 1) / bins`, compared in the precision of `p`, as `p >= k / bins` would be.
    """

    def __init__(self, bins: int = 1000):
        self.bins = bins
        self.thresholds = np.arange(bins + 1) / bins
        self.positive = np.zeros(bins + 1, np.int64)
        self.negative = np.zeros(bins + 1, np.int64)
        self.total = np.zeros(bins + 1)  # sum of p per bin, for the reliability table

    def update(self, p: np.ndarray, truth: np.ndarray) -> None:
        """Adds pixels. `truth` is 1 or 0, anything else is ignored, and so is NaN in `p`.

        Raises `GridMismatchError` for different shapes, `RasterError` for values that are not 0..1 (beyond rounding).
        """
        p, truth = np.asarray(p), np.asarray(truth)
        if p.shape != truth.shape:
            raise GridMismatchError(f"Probability is {p.shape}, truth is {truth.shape} pixels.", "Bring both to the same grid first.")
        counted = ((truth == 0) | (truth == 1)) & ~np.isnan(p)
        p, wet = p[counted], truth[counted] == 1
        if not p.size:
            return
        if p.min() < -1e-3 or p.max() > 1 + 1e-3:
            raise RasterError(
                f"Probabilities lie between 0 and 1, not between {p.min():g} and {p.max():g}.",
                "Choose a probability raster; divide per cent by 100 and 8-bit values by 255 first.",
            )
        edges = self.thresholds.astype(p.dtype) if p.dtype.kind == "f" else self.thresholds
        index = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, self.bins)
        self.positive += np.bincount(index[wet], minlength=self.bins + 1)
        self.negative += np.bincount(index[~wet], minlength=self.bins + 1)
        self.total += np.bincount(index, weights=p.astype(np.float64), minlength=self.bins + 1)

    def merge(self, other: ProbabilityCurve) -> None:
        """Adds the pixels of another curve with as many bins."""
        if other.bins != self.bins:
            raise ValueError(f"Curves with {self.bins} and {other.bins} bins can't be merged.")
        self.positive += other.positive
        self.negative += other.negative
        self.total += other.total

    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True positives, false positives, false negatives in pixels, one number per threshold."""
        true_positive = self.positive[::-1].cumsum()[::-1]
        false_positive = self.negative[::-1].cumsum()[::-1]
        return true_positive, false_positive, self.positive.sum() - true_positive

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Thresholds (ascending, 0..1), precision, recall; NaN where nothing is predicted, or nothing true."""
        true_positive, false_positive, false_negative = self.counts()
        return (
            self.thresholds,
            _share(true_positive, true_positive + false_positive),
            _share(true_positive, true_positive + false_negative),
        )

    def values(self, metric: str = "iou") -> np.ndarray:
        """`iou` or `f1` of the class per threshold."""
        true_positive, false_positive, false_negative = self.counts()
        if metric == "iou":
            return _share(true_positive, true_positive + false_positive + false_negative)
        if metric == "f1":
            return _share(2 * true_positive, 2 * true_positive + false_positive + false_negative)
        raise ConfigError(f"There is no curve of {metric!r}.", "Choose one of: iou, f1.")

    def best_threshold(self, metric: str = "iou") -> tuple[float, float]:
        """The threshold with the highest `iou` or `f1`, and that value; the one nearest to 0.5 among equals. NaN, NaN without positives.

        Both have their best at the same threshold, for F1 = 2 IoU / (1 + IoU).
        """
        values = self.values(metric)
        if not self.positive.sum():
            return float("nan"), float("nan")
        best = np.flatnonzero(values == values.max())  # no NaN here: with positives the denominator is never 0
        choice = best[np.argmin(np.abs(self.thresholds[best] - 0.5))]
        return float(self.thresholds[choice]), float(values[choice])

    def average_precision(self) -> float:
        """Area under the precision-recall steps, sum of (R_k - R_k+1) P_k, without interpolation. NaN without positives."""
        _, precision, recall = self.precision_recall()
        gained = -np.diff(recall, append=0.0)
        return float(np.sum(gained * np.nan_to_num(precision))) if self.positive.sum() else float("nan")

    def reliability(self, groups: int = 10) -> dict:
        """Calibration: pixels grouped by predicted probability, `groups` of equal width.

        `low`, `high` limits of each group; `probability` mean predicted, `observed` share that is of the class (NaN in an empty group),
        `pixels`; and `error`, the expected calibration error: mean |observed - probability|, weighted by pixels.
        """
        group = np.minimum(np.arange(self.bins + 1) * groups // self.bins, groups - 1)
        pixels = np.bincount(group, self.positive + self.negative, groups)
        probability = _share(np.bincount(group, self.total, groups), pixels)
        observed = _share(np.bincount(group, self.positive, groups), pixels)
        gap = np.where(pixels > 0, np.abs(observed - probability), 0.0)
        return {
            "low": (np.arange(groups) / groups).tolist(),
            "high": (np.arange(1, groups + 1) / groups).tolist(),
            "probability": probability.tolist(),
            "observed": observed.tolist(),
            "pixels": [int(count) for count in pixels],
            "error": _share((gap * pixels).sum(), pixels.sum()).item(),
        }


def _figures(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of `(..., n, n)` matrices: arrays `(...)`, and `(..., n)` for those per class."""
    matrix = matrix.astype(np.float64)  # products of pixel numbers overflow int64
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    truth, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    total, right = matrix.sum(axis=(-2, -1)), hits.sum(axis=-1)
    iou = _share(hits, truth + predicted - hits)
    f1 = _share(2 * hits, truth + predicted)
    observed, chance = _share(right, total), _share((truth * predicted).sum(axis=-1), total**2)
    spread = (total**2 - (truth**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return {
        "accuracy": observed,
        "kappa": _share(observed - chance, 1 - chance),
        "mcc": _share(right * total - (truth * predicted).sum(axis=-1), np.sqrt(spread)),
        "mean_iou": _mean(iou),
        "mean_dice": _mean(f1),
        "recall": _share(hits, truth),
        "precision": _share(hits, predicted),
        "f1": f1,
        "iou": iou,
    }


def _share(part, whole) -> np.ndarray:
    """`part / whole`, NaN where whole is 0 (or itself NaN)."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where there is nothing else (np.nanmean would warn)."""
    known = ~np.isnan(values)
    return _share(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def _quantile(values: np.ndarray, share: float) -> np.ndarray:
    """Quantile over the first axis without NaN; NaN where there is nothing else."""
    columns = values.reshape(len(values), -1).T
    known = [column[~np.isnan(column)] for column in columns]
    return np.array([np.quantile(column, share) if column.size else np.nan for column in known]).reshape(values.shape[1:])
