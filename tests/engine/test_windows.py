"""Windows: they cover everything, lie where they should, and their weights are never 0 where a pixel needs one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from water_dl_plugin.engine import windows
from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.windows import Window

QUICK = settings(max_examples=150, derandomize=True, deadline=None)


@QUICK
@given(length=st.integers(1, 700), size=st.integers(1, 300), share=st.floats(0, 0.999))
def test_offsets_cover_the_axis_and_give_its_ends_half_an_overlap_of_context(length, size, share):
    overlap = int(share * size)
    starts = windows.offsets(length, size, overlap)
    covered = np.zeros(length, int)
    for start in starts:
        assert start < length and start + size > 0  # no window lies outside
        covered[max(start, 0) : start + size] += 1
    assert covered.min() >= 1
    assert starts[0] <= -(overlap // 2) and starts[-1] + size >= length + overlap // 2
    assert starts == sorted(set(starts))
    assert all(b - a <= size - overlap for a, b in zip(starts, starts[1:]))


@QUICK
@given(length=st.integers(1, 300), size=st.integers(1, 100), share=st.floats(0, 0.999), margin_share=st.floats(0, 1))
def test_every_pixel_has_a_weight_whatever_the_margin(length, size, share, margin_share):
    overlap = int(share * size)
    margin = int(margin_share * overlap / 2)
    weights = windows.ramp(size, overlap, margin)
    total = np.zeros(length + 2 * size)
    for start in windows.offsets(length, size, overlap):
        total[size + start : 2 * size + start] += weights
    assert (total[size : size + length] > 0).all()
    assert (weights[:margin] == 0).all() and (weights[size - margin :] == 0).all() and weights.dtype == np.float32
    assert (weights[margin : size - margin] > 0).all() and np.array_equal(weights, weights[::-1])


def test_weights_rise_over_the_overlap_and_are_one_inside():
    assert np.allclose(windows.ramp(10, 4), [0.125, 0.375, 0.625, 0.875, 1, 1, 0.875, 0.625, 0.375, 0.125])
    assert np.allclose(windows.ramp(10, 6, 2), [0, 0, 0.25, 0.75, 1, 1, 0.75, 0.25, 0, 0])


def test_a_single_window_is_centred_on_a_small_raster():
    assert windows.offsets(10, 64, 16) == [-27]
    assert windows.grid_rows(1, 10, 64, 16) == [[Window(-32, -27, 64, 64)]]


@pytest.mark.parametrize(("size", "overlap"), [(64, 64), (64, 65), (64, -1), (0, 0)])
def test_an_overlap_as_large_as_the_window_is_refused(size, overlap):
    with pytest.raises(ConfigError, match="overlap"):
        windows.offsets(100, size, overlap)


def test_margins_that_eat_the_overlap_are_refused():
    with pytest.raises(ConfigError, match=r"at least 18 px"):
        windows.ramp(64, 17, 9)


@QUICK
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 100))
def test_blocks_cover_once(width, height, size):
    seen = np.zeros((height, width), int)
    for block in windows.blocks(width, height, size):
        assert seen[block.slices].shape == (block.height, block.width) and not block.empty
        seen[block.slices] += 1
    assert (seen == 1).all()


def test_inside_is_the_cut_with_the_raster():
    assert Window(-5, 3, 10, 10).inside(8, 8) == Window(0, 3, 5, 5)
    assert Window(20, 0, 5, 5).inside(8, 8).empty and Window(-9, 0, 5, 5).inside(8, 8).empty
    assert Window(1, 2, 3, 4).shifted(-1, 5) == Window(0, 7, 3, 4)
