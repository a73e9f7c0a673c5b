"""Which chips train, validate and test: by blocks of the map, by scene, or by chance. Pure arithmetic."""

from __future__ import annotations

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2
_STREAM = 3


def choose(counts: np.ndarray, shares: tuple[float, float], seed: int, tries: int = 500) -> np.ndarray:
    """Assign units (blocks, scenes) to training, validation and test so that each class is shared out as wished.

    `counts` `(units, classes)`: labelled pixels; `shares`: of validation and of test. Returns int `(units,)`. Of many random assignments
    the one nearest to the wished shares of every class is taken. Units without labels train. With a single labelled unit all train.
    """
    rng = np.random.default_rng([seed, _STREAM])
    result = np.zeros(len(counts), int)
    used = np.flatnonzero(counts.sum(axis=1) > 0)
    wished = np.array([1 - sum(shares), *shares])
    if len(used) < 1 + np.count_nonzero(wished[1:]):
        return result
    part = counts[used] / np.maximum(counts[used].sum(axis=0), 1)
    held = counts.sum(axis=0) > 0
    best = None
    for _ in range(tries):
        draw = rng.permutation(len(used))
        size = counts[used][draw].sum(axis=1) / counts.sum()
        middle = np.cumsum(size) - size / 2
        cut = np.array([VALIDATION, TEST, TRAIN])[np.digitize(middle, np.cumsum(shares))]
        assigned = np.empty(len(used), int)
        assigned[draw] = cut
        got = np.array([part[assigned == k].sum(axis=0) for k in (TRAIN, VALIDATION, TEST)])[:, held]
        empty = np.count_nonzero((got == 0) & (wished[:, None] > 0))
        score = empty + np.abs(got - wished[:, None]).mean()
        if best is None or score < best[0]:
            best = (score, assigned)
    result[used] = best[1]
    return result


def by_chance(number: int, shares: tuple[float, float], seed: int) -> np.ndarray:
    """Assign `number` units at random, int `(number,)`."""
    result = np.zeros(number, int)
    order = np.random.default_rng([seed, _STREAM]).permutation(number)
    first, second = round(shares[0] * number), round(sum(shares) * number)
    result[order[:first]], result[order[first:second]] = VALIDATION, TEST
    return result
