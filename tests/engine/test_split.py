"""Splits: shares, classes on both sides, blocks that don't leak."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import utm
from water_dl_plugin.engine import split
from water_dl_plugin.engine.chips import Chip
from water_dl_plugin.engine.classes import MapClass
from water_dl_plugin.engine.errors import LabelError
from water_dl_plugin.engine.settings import ChipsConfig
from water_dl_plugin.engine.split import TEST, TRAIN, VALIDATION, Shares, by_chance, choose

CLASSES = (MapClass(0, "land", (0, 0, 0)), MapClass(1, "water", (0, 0, 255)))


@pytest.mark.parametrize("shares", [(0.2, 0.0), (0.2, 0.2), (0.5, 0.1), (0.0, 0.3)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shares_of_every_class_are_near_the_wished(shares, seed):
    counts = np.random.default_rng(seed).integers(0, 1000, (40, 3))
    got = choose(counts, shares, seed)
    for part, wished in ((VALIDATION, shares[0]), (TEST, shares[1]), (TRAIN, 1 - sum(shares))):
        np.testing.assert_allclose(counts[got == part].sum(axis=0) / counts.sum(axis=0), wished, atol=0.08)


def test_a_rare_class_is_on_both_sides_where_it_can_be():
    for seed in range(10):
        counts = np.zeros((30, 2), int)
        counts[:, 0] = 1000
        counts[np.random.default_rng(seed).permutation(30)[:2], 1] = 10
        got = choose(counts, (0.2, 0.0), seed)
        assert counts[got == TRAIN, 1].sum() == 10 and counts[got == VALIDATION, 1].sum() == 10


def test_units_without_labels_train_and_too_few_units_all_train():
    counts = np.array([[5, 5], [0, 0], [5, 5], [0, 0], [5, 5]])
    got = choose(counts, (0.3, 0.3), 0)
    assert got[[1, 3]].tolist() == [TRAIN, TRAIN] and set(got[[0, 2, 4]]) == {TRAIN, VALIDATION, TEST}
    assert not choose(np.array([[5, 5]]), (0.2, 0.0), 0).any()
    assert not choose(np.array([[5, 5], [5, 5]]), (0.2, 0.2), 0).any()


def test_same_seed_same_split():
    counts = np.random.default_rng(5).integers(0, 1000, (40, 2))
    np.testing.assert_array_equal(choose(counts, (0.2, 0.1), 3), choose(counts, (0.2, 0.1), 3))
    assert (choose(counts, (0.2, 0.1), 3) != choose(counts, (0.2, 0.1), 4)).any()
    assert (by_chance(50, (0.2, 0.1), 3) != by_chance(50, (0.2, 0.1), 4)).any()


def test_by_chance_gives_exact_shares():
    assert np.bincount(by_chance(50, (0.2, 0.1), 0)).tolist() == [35, 10, 5]
    assert np.bincount(by_chance(1, (0.2, 0.0), 0)).tolist() == [1]


def shares_of(config, size=128, scenes=1):
    whole = np.ones((size, size), np.uint8)
    whole[:, size // 2 :] = 2
    grids = [utm(size, size, x=400_000.0 + 20_000 * i) for i in range(scenes)]

    def labels(i, grid):
        col, row = (round(n) for n in grids[i].to_pixel(grid.transform[0], grid.transform[3]))
        return whole[row : row + grid.height, col : col + grid.width]

    return Shares(grids, labels, CLASSES, config), grids, whole


def test_a_tile_across_a_border_is_shared_out_without_loss():
    shares, (grid,), whole = shares_of(ChipsConfig(tile_size=64, stride=64, block_size=16, validation_share=0.3, test_share=0.2))
    parts = dict(shares.parts(0, grid, whole))
    assert set(parts) == {TRAIN, VALIDATION, TEST}
    held = np.stack([parts[k] > 0 for k in parts])
    np.testing.assert_array_equal(held.sum(axis=0), 1)  # each labelled pixel is in one split, and in one only
    np.testing.assert_array_equal(sum(parts.values()), whole)
    for k, mine in parts.items():  # and a block is never cut
        inside = (mine > 0).reshape(8, 16, 8, 16).transpose(0, 2, 1, 3).reshape(8, 8, -1)
        assert (inside.all(axis=2) | ~inside.any(axis=2)).all(), k
    turned = grid.rotated(90)
    for k, mine in shares.parts(0, turned, np.rot90(whole, -1)):
        np.testing.assert_array_equal(np.rot90(mine), parts[k])


def test_source_split_keeps_scenes_whole():
    shares, grids, whole = shares_of(ChipsConfig(tile_size=64, stride=64, split="source", validation_share=0.3), scenes=4)
    found = [list(shares.parts(i, g, whole)) for i, g in enumerate(grids)]
    assert all(len(f) == 1 and (f[0][1] == whole).all() for f in found)
    assert sorted(f[0][0] for f in found) in ([TRAIN, TRAIN, TRAIN, VALIDATION], [TRAIN, TRAIN, VALIDATION, VALIDATION])


def test_random_split_keeps_turned_copies_together():
    shares, _, _ = shares_of(ChipsConfig(tile_size=64, stride=64, split="random", validation_share=0.5))
    places = [(0, row, col) for row in range(5) for col in range(4) for _ in range(4)]
    chips = shares.by_chance([Chip(f"{i}", None) for i in range(80)], places)
    assert [c.split for c in chips].count("validation") == 40
    for k in range(0, 80, 4):
        assert len({c.split for c in chips[k : k + 4]}) == 1


def test_cancel_is_heard_within_large_blocks():
    heard = []
    Shares(
        [utm(3000, 3000)], lambda i, grid: np.ones((grid.height, grid.width), np.uint8), CLASSES, ChipsConfig(block_size=3000),
        lambda *a: heard.append(a),
    )  # fmt: skip
    assert len([m for m in heard if m[1:] == ("",)]) >= 9


def test_no_label_at_all_is_an_error_and_few_blocks_a_warning():
    config = ChipsConfig(tile_size=64, stride=64, block_size=200)
    with pytest.raises(LabelError, match="No labelled pixel"):
        Shares([utm(64, 64)], lambda i, grid: np.zeros((grid.height, grid.width), np.uint8), CLASSES, config)
    said = []
    Shares([utm(64, 64)], lambda i, grid: np.ones((grid.height, grid.width), np.uint8), CLASSES, config, lambda f, m="": said.append(m))
    assert any("too few blocks" in m for m in said) and any("no label of class water" in m for m in said)
    assert split.SPLITS == ("train", "validation", "test")
