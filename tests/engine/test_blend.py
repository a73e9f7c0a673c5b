"""Blending against the plain formula `sum(w x) / sum(w)`, in float64 and over the whole raster at once."""

from __future__ import annotations

import numpy as np
import pytest

from water_dl_plugin.engine import windows
from water_dl_plugin.engine.blend import Blend


def blended(width, height, size, overlap, value, crop=False, margin=0, channels=2, dtype=np.float32):
    """What `infer.predict` does with the blend, and beside it all windows' values and weights."""
    weights = windows.ramp(size, size) if crop else windows.ramp(size, overlap, margin)
    blend = Blend(channels, (0, width), size, weights, dtype, crop)
    rows, out, held, seen = windows.grid_rows(width, height, size, overlap), [], [], []
    for i, row in enumerate(rows):
        for window in row:
            values = value(window)
            seen.append((window, values))
            blend.add(window, values, np.ones((size, size), bool))
        end = height if i + 1 == len(rows) else min(max(rows[i + 1][0].row, 0), height)
        mean, holds = blend.take(end - blend.top)
        out.append(mean)
        held.append(holds)
    return np.concatenate(out, 1), np.concatenate(held), seen, weights


@pytest.mark.parametrize(
    ("width", "height", "size", "overlap", "margin"),
    [(100, 70, 32, 8, 0), (97, 101, 32, 13, 4), (5, 3, 32, 8, 0), (64, 64, 32, 31, 0), (33, 70, 16, 0, 0)],
)
def test_blend_is_the_weighted_mean(width, height, size, overlap, margin):
    rng = np.random.default_rng(1)
    got, holds, seen, weights = blended(
        width, height, size, overlap, lambda _: rng.normal(size=(2, size, size)).astype(np.float32), margin=margin
    )
    weight = np.outer(weights, weights).astype(np.float64)
    total, top = np.zeros((height, width)), np.zeros((2, height, width))
    for window, values in seen:
        here = window.inside(width, height)
        cut = here.shifted(-window.col, -window.row).slices
        total[here.slices] += weight[cut]
        top[(slice(None), *here.slices)] += values[(slice(None), *cut)] * weight[cut]
    assert holds.all() and got.dtype == np.float32
    assert np.allclose(got, top / total, atol=1e-5)


@pytest.mark.parametrize(("size", "overlap"), [(16, 4), (17, 5), (16, 0)])
def test_crop_takes_each_pixel_from_the_window_whose_centre_is_nearest(size, overlap):
    width, height = 61, 43
    number = iter(range(1000))
    got, holds, seen, _ = blended(width, height, size, overlap, lambda _: np.full((2, size, size), next(number), np.float32), crop=True)
    rows, cols = np.mgrid[:height, :width]
    assert holds.all()
    for axis, where, get in ((0, rows, lambda w: w.row), (1, cols, lambda w: w.col)):
        reach = np.stack(
            [np.where((where >= get(w)) & (where < get(w) + size), np.abs(where - get(w) - (size - 1) / 2), np.inf) for w, _ in seen]
        )
        taken = np.take_along_axis(reach, got[0].astype(int)[None], 0)[0]
        assert np.array_equal(taken, reach.min(0)), axis


def test_pixels_that_no_window_wanted_do_not_hold():
    blend = Blend(1, (0, 8), 8, windows.ramp(8, 2))
    wanted = np.zeros((8, 8), bool)
    wanted[2, 3] = True
    blend.add(windows.Window(0, 0, 8, 8), np.ones((1, 8, 8), np.float32), wanted)
    mean, holds = blend.take(8)
    assert np.array_equal(holds, wanted) and mean[0, 2, 3] == 1


def test_margins_count_for_nothing_even_if_they_hold_rubbish():
    def value(window):
        values = np.full((2, 32, 32), 1e30, np.float32)
        values[:, 4:-4, 4:-4] = 0.1
        return values

    got, holds, _, _ = blended(90, 77, 32, 12, value, margin=4)
    assert holds.all() and (got == np.float32(0.1)).all()
