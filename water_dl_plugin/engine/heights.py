"""Arithmetic on elevations: voids, slope, aspect, level areas. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np

LEVEL_PX = 5  # side of the smallest area that counts as level


def fill_voids(plane: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`plane` `(rows, cols)`, float, with smooth values where `valid` is False; valid pixels are untouched, bit for bit.

    Push-pull: means of what is valid over 2 x 2, 4 x 4, ... pixels are spread bilinearly into the gaps (Gortler et al. 1996,
    10.1145/237170.237200, section 3.4). A plane without any valid pixel becomes 0.
    """
    if valid.all():
        return plane
    if not valid.any():
        return np.zeros_like(plane)
    level = float(plane[valid][0])  # near 0 nothing is lost to rounding
    filled = _pull(np.where(valid, plane - plane.dtype.type(level), 0), valid.astype(plane.dtype))
    return np.where(valid, plane, filled + plane.dtype.type(level))


def filled_along_plane(plane: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """As `fill_voids`, float32, but around the plane that fits all valid pixels: where a tilted plane has voids or ends, it goes on."""
    if valid.all() or valid.sum() < 3:
        return fill_voids(plane.astype(np.float32), valid)
    rows, cols = np.nonzero(valid)
    some = slice(None, None, max(len(rows) // 20_000, 1))  # enough for three numbers
    terms = np.stack([np.ones(len(rows[some])), rows[some], cols[some]], axis=1)
    middle = terms.mean(axis=0) * [0, 1, 1]
    terms -= middle
    c, a, b = np.linalg.lstsq(terms, plane[rows[some], cols[some]].astype(np.float64), rcond=1e-9)[0]
    trend = c + a * (np.arange(plane.shape[0])[:, None] - middle[1]) + b * (np.arange(plane.shape[1]) - middle[2])
    rest = fill_voids(np.where(valid, plane - trend, 0).astype(np.float32), valid)
    return np.where(valid, plane, trend + rest).astype(np.float32)


def moving_mean(plane: np.ndarray, width: int) -> np.ndarray:
    """Mean over the square of `width` px (odd) around each pixel of `plane` `(rows, cols)`, float; beyond the border the surface goes on as it
    is, so that a plane stays one."""
    for axis in (0, 1):
        half = min(width // 2, plane.shape[axis] - 1)
        edged = np.pad(
            plane.astype(np.float64), [(half, half) if a == axis else (0, 0) for a in (0, 1)], mode="reflect", reflect_type="odd"
        )
        sums = np.insert(np.cumsum(edged, axis=axis), 0, 0, axis=axis)
        size = 2 * half + 1
        upper, lower = (np.take(sums, np.arange(k, k + plane.shape[axis]), axis=axis) for k in (size, 0))
        plane = ((upper - lower) / size).astype(plane.dtype)
    return plane


def _pull(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values with gaps (weight < 1) filled from half the resolution, and so on up."""
    if weight.min() > 0.999 or values.size == 1:
        return values
    rows, cols = values.shape
    pad = ((0, rows % 2), (0, cols % 2))
    # (pairs of rows, 2, pairs of columns, 2)
    halves = [np.pad(a, pad).reshape(-(-rows // 2), 2, -(-cols // 2), 2) for a in (values * weight, weight)]
    total, sums = halves[1].sum(axis=(1, 3)), halves[0].sum(axis=(1, 3))
    coarse = _pull(sums / np.where(total > 0, total, 1), np.minimum(total, 1))
    spread = _doubled(_doubled(coarse).T).T[:rows, :cols]
    return weight * values + (1 - weight) * spread


def _doubled(values: np.ndarray) -> np.ndarray:
    """Twice the rows, bilinear between the middles of the pixels."""
    edged = np.concatenate([values[:1], values, values[-1:]])
    out = np.empty((2 * len(values), values.shape[1]), values.dtype)
    out[0::2] = 0.75 * values + 0.25 * edged[:-2]
    out[1::2] = 0.75 * values + 0.25 * edged[2:]
    return out


def gradient(z: np.ndarray, dx_m: float, dy_m: float) -> tuple[np.ndarray, np.ndarray]:
    """(dz_dx, dz_dy): rise per metre to the right (east, if north is up) and to the top (north), each of the shape of `z` `(..., rows, cols)`.

    Horn 1981 (10.1109/PROC.1981.11918), as gdaldem; beyond the border the surface goes on as it is there (`gdaldem -compute_edges`).
    A NaN makes itself and the pixels beside it NaN.
    """
    edged = _edged(_edged(z, -1), -2)
    across = edged[..., :, 2:] - edged[..., :, :-2]
    along = edged[..., :-2, :] - edged[..., 2:, :]
    dz_dx = (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / (8 * dx_m)
    dz_dy = (along[..., :, :-2] + 2 * along[..., :, 1:-1] + along[..., :, 2:]) / (8 * dy_m)
    void = np.isnan(z)  # the middle pixel has no part in its own slope
    return np.where(void, np.nan, dz_dx), np.where(void, np.nan, dz_dy)


def _edged(z: np.ndarray, axis: int) -> np.ndarray:
    """One more pixel on either side, continued linearly."""
    z = np.moveaxis(z, axis, 0)
    inner = 1 if len(z) > 1 else 0
    return np.moveaxis(np.concatenate([2 * z[:1] - z[inner : inner + 1], z, 2 * z[-1:] - z[-1 - inner : len(z) - inner]]), 0, axis)


def slope_deg(z: np.ndarray, dx_m: float, dy_m: float) -> np.ndarray:
    """Steepest slope in degrees, of the shape of `z`."""
    return np.degrees(np.arctan(np.hypot(*gradient(z, dx_m, dy_m))))


def aspect_deg(z: np.ndarray, dx_m: float, dy_m: float) -> np.ndarray:
    """Direction in which the surface falls, degrees clockwise from the top (north), 0 <= a < 360; NaN where it is flat."""
    dz_dx, dz_dy = gradient(z, dx_m, dy_m)
    aspect = np.degrees(np.arctan2(-dz_dx, -dz_dy)) % 360
    return np.where((dz_dx == 0) & (dz_dy == 0), np.nan, np.where(aspect >= 360, 0, aspect))


def level_areas(z: np.ndarray, valid: np.ndarray, pixels: int = LEVEL_PX) -> np.ndarray:
    """bool `(rows, cols)`: pixels of some square of `pixels` x `pixels` that has data everywhere and one height.

    The makers of elevation models set water level; terrain is hardly ever so. Only squares inside the array count, so a tile
    needs a halo of `pixels - 1`.
    """
    if min(z.shape) < pixels:
        return np.zeros(z.shape, bool)
    low, high = np.where(valid, z, -np.inf), np.where(valid, z, np.inf)
    level = _over(_over(low, pixels, 0, np.minimum), pixels, 1, np.minimum) == _over(
        _over(high, pixels, 0, np.maximum), pixels, 1, np.maximum
    )
    padded = np.pad(level, pixels - 1)
    return _over(_over(padded, pixels, 0, np.logical_or), pixels, 1, np.logical_or)


def _over(a: np.ndarray, pixels: int, axis: int, join) -> np.ndarray:
    """`join` over each run of `pixels` along an axis; `pixels - 1` shorter."""
    a = np.moveaxis(a, axis, 0)
    result = a[: len(a) - pixels + 1]
    for k in range(1, pixels):
        result = join(result, a[k : len(a) - pixels + 1 + k])
    return np.moveaxis(result, 0, axis)
