"""A fine elevation model whose block means are the coarse one: what is missing is put back, smoothly.

Irani & Peleg 1991 (10.1016/1049-9652(91)90045-L) add the interpolated difference between the coarse image and the block means of the fine
one, again and again. Where the two grids are parallel, block means and interpolation are a matrix along the rows and one along the columns,
and what the rounds converge to is found at once. Pure arithmetic on arrays: axis 0 rows, axis 1 columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Coarse pixels around a block that it must see: an influence falls to an eighth from pixel to pixel.
HALO = 12
_SPREAD = 4  # rounds in which a difference is carried into unknown pixels


@dataclass(frozen=True)
class Axis:
    """Rows or columns of a fine and a coarse grid.

    `means` `(coarse, fine)`: a coarse pixel's mean; `weights` `(fine, coarse)`: cubic convolution; `inverse` `(coarse, coarse)`: which
    coarse values have, interpolated, these means; `whole` `(coarse,)`: is all of a coarse pixel covered by fine ones?
    """

    means: np.ndarray
    weights: np.ndarray
    inverse: np.ndarray
    whole: np.ndarray


def axis(fine: int, coarse: int, origin: float, step: float) -> Axis:
    """The axis of so many fine and coarse pixels. `origin`: where the first fine pixel begins, `step`: how wide one is, in coarse pixels."""
    edges = origin + step * np.arange(fine + 1)
    cells = np.arange(coarse)[:, None]
    means = np.clip(np.minimum(edges[1:], cells + 1) - np.maximum(edges[:-1], cells), 0, None)
    whole = means.sum(axis=1) > 1 - 1e-6
    weights = np.zeros((fine, coarse))
    places = (edges[1:] + edges[:-1]) / 2 - 0.5  # in numbers of coarse pixel centres
    first = np.floor(places).astype(int)
    for k in range(-1, 3):
        np.add.at(weights, (np.arange(fine), np.clip(first + k, 0, coarse - 1)), _keys(places - (first + k)))
    forward = np.where(whole[:, None], means @ weights, np.eye(coarse))
    return Axis(means, weights, np.linalg.inv(forward), whole)


def _keys(x: np.ndarray) -> np.ndarray:
    """Kernel of cubic convolution, a = -0.5 (Keys 1981, 10.1109/TASSP.1981.1163711)."""
    x = np.abs(x)
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))


def block_means(fine: np.ndarray, valid: np.ndarray, rows: Axis, cols: Axis) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the fine heights in each coarse pixel, and where it is known: all of the pixel is covered by valid ones."""
    share = rows.means @ valid.astype(np.float64) @ cols.means.T
    return rows.means @ np.where(valid, fine, 0.0) @ cols.means.T, share > 1 - 1e-6


def correction(
    fine: np.ndarray, valid: np.ndarray, coarse: np.ndarray, known: np.ndarray, rows: Axis, cols: Axis
) -> tuple[np.ndarray, np.ndarray]:
    """What to add to the fine heights, float64 `(rows, cols)` of their shape, and the difference that it mends, of the coarse shape (0 where
    it is not known).

    Where a coarse pixel is `known` and its fine pixels are all `valid`, their mean becomes the coarse height; elsewhere the correction of
    the neighbours fades out.
    """
    means, whole = block_means(fine, valid, rows, cols)
    whole &= known
    difference = np.where(whole, np.where(known, coarse, 0.0) - means, 0.0)
    return rows.weights @ (rows.inverse @ _spread(difference, whole) @ cols.inverse.T) @ cols.weights.T, difference


def _spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Unknown pixels near known ones get the mean of those around them, round by round; farther off they stay 0. (A fill that looks farther
    would depend on the block.)"""
    values, known = values.copy(), known.copy()
    for _ in range(_SPREAD):
        if known.all():
            break
        total, number = (_around(np.where(known, a, 0.0)) for a in (values, np.ones(values.shape)))
        new = ~known & (number > 0)
        values[new] = total[new] / number[new]
        known |= new
    return values


def _around(a: np.ndarray) -> np.ndarray:
    """Sum over 3 x 3 pixels."""
    wide = np.pad(a, 1)
    wide = wide[:-2] + wide[1:-1] + wide[2:]
    return wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
