"""Outlines: shapes whose figures are known by counting, and the definition done by brute force."""

import math

import numpy as np
import pytest

from water_dl_plugin.engine.errors import ConfigError, GridMismatchError
from water_dl_plugin.engine.outline_metrics import boundary, boundary_counts, boundary_scores, specks


def rectangle(top, left, height, width, shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def drawn(text):
    return np.array([[sign == "#" for sign in line] for line in text.split()])


def blobs(seed, shape=(36, 44)):
    rough = np.random.default_rng(seed).normal(size=shape)
    for _ in range(3):
        rough = (rough + np.roll(rough, 1, 0) + np.roll(rough, 1, 1) + np.roll(rough, -1, 0) + np.roll(rough, -1, 1)) / 5
    return rough > 0.05


def brute_force(truth, prediction, tolerance, valid):
    """The definition, pixel by pixel: slow, and written without any distance transform."""
    rows, cols = truth.shape

    def inside(r, c):
        return 0 <= r < rows and 0 <= c < cols and valid[r, c]

    def edge_pixels(mask):
        found = []
        for r in range(rows):
            for c in range(cols):
                around = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
                if mask[r, c] and valid[r, c] and any(inside(*p) and not mask[p] for p in around):
                    found.append((r, c))
        return found

    reach = math.ceil(tolerance)

    def judged(r, c):
        offsets = range(-reach, reach + 1)
        return all(inside(r + i, c + j) for i in offsets for j in offsets if math.hypot(i, j) <= tolerance)

    true, predicted = edge_pixels(truth), edge_pixels(prediction)
    counts = []
    for one, other in ((predicted, true), (true, predicted)):
        asked = [p for p in one if judged(*p)]
        counts += [len(asked), sum(any(math.dist(p, q) <= tolerance for q in other) for p in asked)]
    return counts


def test_boundary_of_a_rectangle_is_its_rim():
    mask = rectangle(10, 10, 6, 9)
    assert boundary(mask).sum() == 2 * (6 + 9) - 4
    assert not boundary(mask)[11:15, 11:18].any()
    assert not boundary(mask)[~mask].any()


def test_no_shore_at_the_arrays_edge_or_beside_nodata():
    assert not boundary(np.ones((5, 7), bool)).any()
    half = rectangle(0, 0, 40, 20)
    assert np.flatnonzero(boundary(half).any(axis=0)).tolist() == [19]
    valid = np.ones(half.shape, bool)
    valid[:, 20] = False  # the dry side of the shore is unknown
    assert not boundary(half, valid).any()
    valid[:, 19:21] = [False, True]  # the wet side is
    assert not boundary(half, valid).any()


def test_a_diagonal_neighbour_makes_no_boundary():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    assert boundary(mask).astype(int).sum() == 4
    assert not boundary(mask)[1, 1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 3])
def test_counts_are_those_of_the_definition(seed, tolerance):
    truth, prediction = blobs(seed), np.roll(blobs(seed), (1, 2), (0, 1)) ^ (np.random.default_rng(seed).random((36, 44)) < 0.02)
    valid = np.random.default_rng(seed + 10).random(truth.shape) > 0.002
    valid[:6, :9] = False
    counts = boundary_counts(truth, prediction, tolerance, valid)
    assert counts.tolist() == brute_force(truth, prediction, tolerance, valid)
    assert counts[1] > 0 and counts[3] > 0


@pytest.mark.parametrize("shift, one, two", [(0, 1.0, 1.0), (1, 1.0, 1.0), (2, 0.0, 1.0), (3, 0.0, 0.0)])
def test_a_straight_shore_that_is_shifted(shift, one, two):
    truth, prediction = rectangle(0, 0, 40, 20), rectangle(0, 0, 40, 20 + shift)
    assert boundary_scores(boundary_counts(truth, prediction, 1))["f"] == one
    assert boundary_scores(boundary_counts(truth, prediction, 2))["f"] == two


def test_a_false_lake_costs_precision_and_a_missed_one_recall():
    lake, other = rectangle(5, 5, 10, 10), rectangle(22, 22, 10, 10)
    false = boundary_scores(boundary_counts(lake, lake | other, 1))
    missed = boundary_scores(boundary_counts(lake | other, lake, 1))
    assert (false["precision"], false["recall"]) == (0.5, 1.0)
    assert (missed["precision"], missed["recall"]) == (1.0, 0.5)
    assert false["f"] == missed["f"] == pytest.approx(2 / 3)


def test_counts_of_parts_add_up_and_merge_as_one_sample():
    lake = rectangle(5, 5, 10, 10)
    both = boundary_counts(lake, lake, 1) + boundary_counts(lake, rectangle(20, 30, 10, 10), 1)
    assert both.dtype == np.int64 and both.tolist() == [72, 36, 72, 36]
    assert boundary_scores(both) == {"precision": 0.5, "recall": 0.5, "f": 0.5}


def test_undefined_is_nan_and_one_missing_boundary_is_zero():
    lake, nothing = rectangle(5, 5, 10, 10), np.zeros((40, 50), bool)
    neither = boundary_scores(boundary_counts(nothing, nothing, 1))
    assert all(math.isnan(value) for value in neither.values())
    unseen = boundary_scores(boundary_counts(lake, nothing, 1))
    assert math.isnan(unseen["precision"]) and unseen["recall"] == 0 and unseen["f"] == 0
    invented = boundary_scores(boundary_counts(nothing, lake, 1))
    assert invented["precision"] == 0 and math.isnan(invented["recall"]) and invented["f"] == 0


def test_what_lies_near_the_edge_is_not_judged_but_can_be_matched():
    truth = rectangle(0, 0, 40, 3)  # its shore, column 2, is 3 px from what lies outside
    prediction = rectangle(0, 0, 40, 5)
    assert boundary_counts(truth, prediction, 2).tolist() == [36, 36, 36, 36]  # rows 0, 1, 38 and 39 lie too near to the edge
    assert boundary_counts(rectangle(0, 0, 40, 2), rectangle(0, 0, 40, 4), 2).tolist() == [36, 36, 0, 0]


def test_a_wrong_shape_tolerance_or_type_is_refused():
    lake = rectangle(5, 5, 10, 10)
    with pytest.raises(GridMismatchError):
        boundary_counts(lake, lake[:-1], 1)
    with pytest.raises(GridMismatchError):
        specks(lake, 10, truth=lake[:, 1:])
    with pytest.raises(GridMismatchError):
        boundary(lake, lake[:-1])
    for tolerance in (-1, float("nan")):
        with pytest.raises(ConfigError, match="tolerance"):
            boundary_counts(lake, lake, tolerance)
    with pytest.raises(ConfigError):
        specks(lake, 0)
    with pytest.raises(TypeError):  # a map with nodata 255 would count it as water
        boundary(lake.astype(np.uint8))


SPECKS = drawn(
    """
    ............
    .#...#####..
    .....##.##..
    ..#..#####..
    ...#.##.###.
    .....####.#.
    .##..######.
    .##.........
    ............
    """
)


@pytest.mark.parametrize("size, islands, holes", [(1, 0, 0), (2, 3, 3), (4, 3, 3), (5, 4, 3), (100, 5, 3)])
def test_specks_are_counted_by_hand(size, islands, holes):
    assert specks(SPECKS, size) == (islands, holes)  # 1 px three times (two of them only touch at a corner), 4 px, the lake with 25


def test_specks_of_the_complement_are_the_same_the_other_way_round():
    inner = SPECKS[1:-1, 1:-1]
    assert specks(~SPECKS, 5) == specks(SPECKS, 5)[::-1]
    assert specks(inner, 5) != specks(SPECKS, 5)  # cut off at the edge: not counted


def test_specks_that_touch_the_edge_or_nodata_are_not_counted():
    mask = drawn("#.... ..... ..#.. .....")
    assert specks(mask, 5) == (1, 0)
    valid = np.ones(mask.shape, bool)
    valid[2, 3] = False
    assert specks(mask, 5, valid) == (0, 0)
    valid[2, 3], valid[1, 3] = True, False  # at its corner only
    assert specks(mask, 5, valid) == (1, 0)
    lake = rectangle(5, 5, 10, 10)
    lake[8, 8] = False
    assert specks(lake, 5) == (0, 1)
    assert specks(lake, 5, lake) == (0, 0)  # a gap in the image is no hole in the lake


def test_only_wrong_specks_are_noise():
    truth = rectangle(5, 5, 20, 20)
    truth[30, 30] = True  # a true pond of one pixel
    truth[10, 10] = False  # a true islet
    noisy = truth.copy()
    noisy[2, 40:42] = True  # two false islands
    noisy[35, 3] = True
    noisy[15, 15] = False  # one false hole
    assert specks(noisy, 10) == (3, 2)
    assert specks(noisy, 10, truth=truth) == (2, 1)
    assert specks(truth, 10, truth=truth) == (0, 0)
    half = noisy.copy()
    half[30, 31] = True  # half of the pond's pixels are wrong: noise
    assert specks(half, 10, truth=truth) == (3, 1)
