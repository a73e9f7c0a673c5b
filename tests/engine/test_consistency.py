"""Block means that are the coarse heights: exactly, whatever the two grids' phase and ratio, near voids, and block by block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from water_dl_plugin.engine.dem.consistency import HALO, axis, block_means, correction

RNG = np.random.default_rng(4)


def slow_means(fine, origin, step, coarse):
    """By counting: each fine pixel cut into 20 x 20 pieces."""
    pieces = np.repeat(np.repeat(fine, 20, 0), 20, 1)
    rows, cols = (origin + step * (np.arange(n) + 0.5) / 20 for n in pieces.shape)
    total, number = np.zeros((coarse, coarse)), np.zeros((coarse, coarse))
    inside = np.ix_((rows >= 0) & (rows < coarse), (cols >= 0) & (cols < coarse))
    where = np.ix_(np.floor(rows[inside[0][:, 0]]).astype(int), np.floor(cols[inside[1][0]]).astype(int))
    np.add.at(total, where, pieces[inside])
    np.add.at(number, where, 1)
    return total / np.maximum(number, 1)


@pytest.mark.parametrize(("origin", "step", "fine"), [(0, 1 / 3, 30), (-0.4, 0.2, 60), (0.2, 0.4, 26)])
def test_means_are_means(origin, step, fine):
    heights = RNG.normal(size=(fine, fine))
    along = axis(fine, 10, origin, step)
    means, whole = block_means(heights, np.ones(heights.shape, bool), along, along)
    assert whole.sum() > 40
    assert np.abs((means - slow_means(heights, origin, step, 10))[whole]).max() < 1e-9


@settings(max_examples=60, derandomize=True, deadline=None)
@given(factor=st.floats(1.05, 12), origin=st.floats(-3, 3), coarse=st.integers(3, 30), seed=st.integers(0, 99))
def test_the_means_become_the_coarse_heights(factor, origin, coarse, seed):
    rng = np.random.default_rng(seed)
    number = int(coarse * factor) + 3
    along, heights = axis(number, coarse, origin, 1 / factor), rng.normal(1000, 30, (number, number))
    target, valid, known = rng.normal(1000, 30, (coarse, coarse)), rng.random((number, number)) > 1e-3, rng.random((coarse, coarse)) > 0.05
    added, difference = correction(heights, valid, target, known, along, along)
    means, whole = block_means(heights + added, valid, along, along)
    held = whole & known
    assert np.abs((means - target)[held]).max(initial=0) < 1e-8 and (difference[~held] == 0).all()


def test_what_is_added_is_smooth_and_nothing_where_nothing_is_missing():
    """A plane's block means miss nothing; a bump's correction has no blocks in it."""
    along = axis(60, 20, 0.0, 1 / 3)
    rows, cols = np.mgrid[:60, :60]
    plane = 2500 + 0.3 * rows - 0.7 * cols
    means, _ = block_means(plane, plane > 0, along, along)
    assert np.abs(correction(plane, plane > 0, means, means > 0, along, along)[0]).max() < 1e-9
    centre = np.exp(-((np.mgrid[:20, :20] - 9.5) ** 2).sum(0) / 30) * 5
    added, _ = correction(plane, plane > 0, means + centre, means > 0, along, along)
    blocky = np.repeat(np.repeat(centre, 3, 0), 3, 1)
    assert np.abs(np.diff(added, axis=0)).max() < 0.6 * np.abs(np.diff(blocky, axis=0)).max()


def test_a_void_leaves_its_surroundings_smooth_and_far_pixels_alone():
    along = axis(90, 30, 0.0, 1 / 3)
    heights = np.full((90, 90), 100.0)
    valid = np.ones((90, 90), bool)
    valid[:, 45:] = False
    added, _ = correction(heights, valid, np.full((30, 30), 104.0), np.ones((30, 30), bool), along, along)
    assert np.abs(added[:, :45] - 4).max() < 5e-3 and np.abs(added[:, 75:]).max() < 1e-3


@pytest.mark.parametrize("factor", [3, 2.6])
def test_blocks_with_a_halo_give_what_the_whole_gives(factor):
    coarse, number = 80, int(80 * factor)
    along, heights = axis(number, coarse, 0.0, 1 / factor), RNG.normal(0, 20, (number, number))
    target, valid = RNG.normal(0, 20, (coarse, coarse)), np.ones((number, number), bool)
    valid[50:60, 70:90] = False
    known = np.ones((coarse, coarse), bool)
    whole, _ = correction(heights, valid, target, known, along, along)
    top, bottom = 30, 45  # a block in coarse pixels, and with its halo
    first, last = top - HALO, bottom + HALO
    a, b = int(np.floor(first * factor)), int(np.ceil(last * factor))
    part = axis(b - a, last - first, a / factor - first, 1 / factor)
    cut, some = slice(a, b), slice(first, last)
    found, _ = correction(heights[cut, cut], valid[cut, cut], target[some, some], known[some, some], part, part)
    inside = slice(int(np.ceil(top * factor)), int(bottom * factor))
    local = slice(inside.start - a, inside.stop - a)
    assert np.abs(found[local, local] - whole[inside, inside]).max() < 1e-4
