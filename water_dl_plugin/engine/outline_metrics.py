"""Figures of the outlines of a water map: how well its boundary follows the true one, and how many noise specks it has.

IoU hardly sees an outline: a lake of 200 x 200 px that is drawn 2 px too wide still has an IoU of 0.96. Masks are bool `(rows, cols)`,
True is water; several classes are judged one by one. Needs SciPy; no files.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .errors import ConfigError, GridMismatchError


def boundary(mask: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """The boundary of a mask, bool `(rows, cols)`: its pixels that have a neighbour (of four) outside it.

    The edge of the array and pixels that are not `valid` make no boundary: a lake that a scene cuts off has no shore there.
    """
    mask, valid = _checked(mask, valid)
    dry = np.pad(~mask & valid, 1)
    beside_dry = dry[:-2, 1:-1] | dry[2:, 1:-1] | dry[1:-1, :-2] | dry[1:-1, 2:]
    return mask & valid & beside_dry


def boundary_counts(truth: np.ndarray, prediction: np.ndarray, tolerance: float, valid: np.ndarray | None = None) -> np.ndarray:
    """Four numbers of pixels, int64: predicted boundary, of these within `tolerance` of the true one; true boundary, of these within
    `tolerance` of the predicted one. Counts of chips or scenes are merged by `+`; `boundary_scores` makes figures of them.

    `tolerance` in pixels, between pixel centres, Euclidean (so 1 takes the four neighbours, 2 not the corner of 5 x 5). Not judged are
    pixels that have the array's edge, or one that is not `valid`, within the tolerance, because what they would be matched with may lie
    beyond it; others may still be matched with them. Csurka et al. 2013, doi:10.5244/C.27.32; as precision and recall,
    Perazzi et al. 2016, doi:10.1109/CVPR.2016.85. Raises `GridMismatchError` for different shapes, `ConfigError` for a negative tolerance.
    """
    if not tolerance >= 0:
        raise ConfigError(f"A tolerance of {tolerance} px is not 0 or more.", "Choose a tolerance in pixels, e.g. 1 or 2.")
    truth, known = _checked(truth, valid)
    prediction, _ = _checked(prediction, known)
    true, predicted = boundary(truth, known), boundary(prediction, known)
    judged = ndimage.distance_transform_edt(np.pad(known, 1))[1:-1, 1:-1] > tolerance  # outside the array counts as not valid
    counts = []
    for one, other in ((predicted, true), (true, predicted)):
        near = ndimage.distance_transform_edt(~other) <= tolerance if other.any() else np.zeros_like(other)
        counts += [np.count_nonzero(one & judged), np.count_nonzero(one & judged & near)]
    return np.array(counts, dtype=np.int64)


def boundary_scores(counts: np.ndarray) -> dict[str, float]:
    """`precision`, `recall` and their harmonic mean `f` of `boundary_counts`, 0..1.

    NaN where undefined: precision without a predicted boundary, recall without a true one, `f` without both. With only one of the two
    `f` is 0: a map without any shore has found nothing.
    """
    predicted, predicted_near, true, true_near = (int(n) for n in counts)
    precision = predicted_near / predicted if predicted else float("nan")
    recall = true_near / true if true else float("nan")
    if not predicted and not true:
        f = float("nan")
    else:
        f = 2 * precision * recall / (precision + recall) if predicted_near and true_near else 0.0
    return {"precision": precision, "recall": recall, "f": f}


def specks(mask: np.ndarray, smaller_than: int, valid: np.ndarray | None = None, truth: np.ndarray | None = None) -> tuple[int, int]:
    """Number of specks: (islands of water, holes in water) of fewer than `smaller_than` pixels, 4-connected both.

    What touches the array's edge or a pixel that is not `valid` is not counted, since it may be part of something larger. With `truth`
    only noise is counted: specks of which at least half of the pixels are wrong, so that small true ponds and islets are none.
    """
    if smaller_than < 1:
        raise ConfigError(f"A speck of fewer than {smaller_than} pixels doesn't exist.", "Choose a size of 2 pixels or more.")
    mask, known = _checked(mask, valid)
    wrong = None if truth is None else _checked(truth, known)[0] != mask
    return _small(mask & known, known, smaller_than, wrong), _small(~mask & known, known, smaller_than, wrong)


def _small(part: np.ndarray, known: np.ndarray, smaller_than: int, wrong: np.ndarray | None) -> int:
    """Number of 4-connected components of `part` that are small, lie inside and (where `wrong` is given) are mostly wrong."""
    labels, count = ndimage.label(part)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    counted = sizes < smaller_than
    counted[0] = False
    outside = np.pad(~known, 1, constant_values=True)
    rim = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    counted[np.unique(labels[rim])] = False
    if wrong is not None:
        counted &= 2 * np.bincount(labels.ravel(), weights=wrong.ravel(), minlength=count + 1) >= sizes
    return int(np.count_nonzero(counted))


def _checked(mask: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mask and valid as bool arrays of one shape; raises `GridMismatchError`, and `TypeError` for what is no mask."""
    mask = np.asarray(mask)
    valid = np.ones(mask.shape, bool) if valid is None else np.asarray(valid)
    if mask.dtype != bool or valid.dtype != bool or mask.ndim != 2:
        raise TypeError(f"Masks are bool (rows, cols), not {mask.dtype} {mask.shape} and {valid.dtype}.")
    if mask.shape != valid.shape:
        raise GridMismatchError(f"A mask is {mask.shape}, the other {valid.shape} pixels.", "Bring both to the same grid first.")
    return mask, valid
