"""Chips of round reservoirs whose water grows with the level: a problem that a small network learns in seconds."""

from __future__ import annotations

import datetime as dt

import numpy as np

from tests.helpers import chips_folder


def level_images(levels, size: int = 32, bands: int = 3, top: float = 10.0, seed: int = 0) -> np.ndarray:
    """float32 `(n, bands, size, size)`: bright land, a dark disc of water whose radius is 0.1 to 0.45 of the chip for levels 0 to `top`."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size] - (size - 1) / 2
    radius = size * (0.1 + 0.35 * np.asarray(levels) / top)
    water = np.hypot(rows, cols) < radius[:, None, None]
    clear = np.where(water[:, None], 400.0, 2500.0) * rng.uniform(0.8, 1.2, (len(radius), 1, 1, 1))
    return (clear + rng.normal(0, 80, (len(radius), bands, size, size))).astype(np.float32)


def level_chips(folder, number: int = 40, size: int = 32, reservoirs=("Lake",), repeats: int = 1, seed: int = 0, held=None, datum=None):
    """A chips folder of the task "level": `number` dates of each reservoir, levels 100 + 0..10 m (200 + ... for the second, and so on).

    Every fifth chip is for testing, the one after it validates (drawing 0); with `repeats` drawing r takes the one r further on.
    Returns (folder, levels).
    """
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0, 10, number * len(reservoirs))
    base = np.repeat(100.0 * np.arange(1, len(reservoirs) + 1), number)
    places = np.repeat(reservoirs, number)
    told, split = [], []
    for i in range(len(depth)):
        turn = i % 5
        drawings = tuple(r for r in range(repeats) if turn == 1 + r % 4) if held is None else held(i)
        split.append("test" if turn == 0 else "validation" if 0 in drawings else "train")
        when = dt.datetime(2016, 1, 1, 8) + dt.timedelta(days=5 * (i % number))
        told.append({"place": str(places[i]), "held": () if turn == 0 else drawings, "date": when.strftime("%Y-%m-%dT%H:%M:%S")})
    images = level_images(depth, size, seed=seed)
    place = {"crs": "", "transform": [0, 10, 0, 0, 0, -10], "width": size, "height": size}
    path = chips_folder(
        folder, images, None, split, classes=(), task="level", values=base + depth, chips=told,
        target={"name": "level", "unit": "m", "sensor": "sentinel-2", "repeats": repeats, "reservoirs": [{"name": n, "datum_m": datum, **place} for n in reservoirs]},
        sources=({"name": "scene.tif", "crs": ""},),
    )  # fmt: skip
    return path, base + depth
