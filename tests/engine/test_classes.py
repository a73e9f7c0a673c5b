"""Classes of a map: numbers, names, order."""

from __future__ import annotations

import numpy as np
import pytest

from water_dl_plugin.engine.classes import MapClass, classify, from_json, is_water, make, name_of
from water_dl_plugin.engine.errors import LabelError


def names(found, order=""):
    return [(c.value, c.name) for c in make(found, order)]


def test_texts_are_numbered_with_water_last():
    assert names(["water", "Cloud", "land"]) == [(0, "Cloud"), (1, "land"), (2, "water")]
    assert names(["lake", "no water", "dry pond"]) == [(0, "dry pond"), (1, "no water"), (2, "lake")]


def test_order_is_taken_and_may_leave_classes_out():
    assert names(["water", "land", "cloud"], "water, land") == [(0, "water"), (1, "land")]
    assert names([1, 2.0, 7], "7, 2") == [(7, "7"), (2, "2")]


def test_whole_numbers_keep_their_value():
    assert names([3, 1]) == [(1, "1"), (3, "3")]
    assert names([0.0, 4.0]) == [(0, "0"), (4, "4")]


@pytest.mark.parametrize("found, order, told", [
    ([1, 2.5], "", "2.5"), ([-1, 2], "", "-1"), ([255, 1], "", "255"), (["a", "b"], "a, c", "'c'"), (["a", "b"], "a, a", "twice"),
    ([f"c{i}" for i in range(300)], "", "300 classes"),
])  # fmt: skip
def test_unusable_classes(found, order, told):
    with pytest.raises(LabelError, match=told):
        make(found, order)


def test_names_of_numbers():
    assert [name_of(v) for v in (2, 2.0, 2.5, "2.0")] == ["2", "2", "2.5", "2.0"]


def test_water_is_known_by_name():
    assert all(map(is_water, ("Water", "alpine lake", "river", "Wasser"))) and not any(
        map(is_water, ("land", "not water", "no lake", "dry river"))
    )


def test_classes_survive_json_and_strangers_do_not():
    made = make(["land", "water"])
    assert from_json([c.to_json() for c in made]) == made
    good = {"value": 1, "name": "x", "colour": [1, 2, 3]}
    for wrong in (None, {}, [], [good] * 256, [good, good], [{**good, "value": 255}], [{**good, "value": True}], [{**good, "colour": [1, 2]}],
                  [{**good, "colour": [1, 2, 300]}], [{**good, "name": ""}], [{**good, "name": "x" * 201}], [{**good, "name": 5}], [5], [{"value": 1}]):  # fmt: skip
        with pytest.raises((ValueError, TypeError, KeyError)):
            from_json(wrong)


def test_classify():
    one = np.array([[[0.1, 0.5, 0.9]]], np.float32)
    assert classify(one).tolist() == [[0, 1, 1]] and classify(one, 0.6).tolist() == [[0, 0, 1]]
    assert classify(np.array([[[0.2, 0.5]], [[0.3, 0.1]], [[0.5, 0.4]]])).tolist() == [[2, 0]]
    assert MapClass(1, "a", (1, 2, 3)).to_json() == {"value": 1, "name": "a", "colour": [1, 2, 3]}
