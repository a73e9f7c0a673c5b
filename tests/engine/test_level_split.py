"""Which dates train, validate and test."""

from __future__ import annotations

import datetime as dt
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from tests import ponds
from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.level.chips.split import assign


def config(split="blocked", validation=0.2, test=0.0, **changes):
    return SimpleNamespace(**{
        "split": split, "validation_share": validation, "test_share": test, "repeats": 1, "block_months": 3, "seed": 0, **changes,
    })  # fmt: skip


def series(number=150, days=10.0, shuffled=True):
    """Times, reservoirs and levels of two ponds, in no order; the second one has half as many dates."""
    rows = [(t, p.name, ponds.level_at(p, t)) for i, p in enumerate(ponds.PONDS) for t in ponds.times(number // (i + 1), days)]
    order = np.random.default_rng(1).permutation(len(rows)) if shuffled else range(len(rows))
    return tuple(zip(*(rows[i] for i in order)))


def quarters(names, levels) -> np.ndarray:
    found = np.zeros(len(names), int)
    for k, name in enumerate(sorted(set(names))):
        own = np.flatnonzero(np.array(names) == name)
        ranks = np.argsort(np.argsort(np.array(levels)[own]))
        found[own] = 4 * k + ranks * 4 // len(own)
    return found


def test_chronological_is_in_the_order_of_time():
    times, names, levels = series()
    part = np.array(assign(times, names, levels, config("chronological", 0.2, 0.1)).part)
    for name in set(names):
        own = [i for i in np.argsort([t.timestamp() for t in times]) if names[i] == name]
        told = [k for k, _ in itertools.groupby(part[own])]
        assert told == ["train", "validation", "test"]
        assert [(part[own] == k).mean() for k in told] == pytest.approx([0.7, 0.2, 0.1], abs=0.011)


@pytest.mark.parametrize("seed", range(3))
def test_random_draws_the_same_share_of_each_quarter(seed):
    times, names, levels = series()
    made = assign(times, names, levels, config("random", 0.2, 0.2, seed=seed))
    part, quarter = np.array(made.part), quarters(names, levels)
    for q in range(8):
        own = part[quarter == q]
        for kind, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
            assert abs((own == kind).sum() - share * len(own)) <= 2
    assert (part == "validation").mean() == pytest.approx(0.2, abs=0.02)
    assert assign(times, names, levels, config("random", 0.2, 0.2, seed=seed)) == made
    assert assign(times, names, levels, config("random", 0.2, 0.2, seed=seed + 9)).part != made.part


@pytest.mark.parametrize("months", [1, 3])
def test_blocked_keeps_whole_months_together_for_all_reservoirs(months):
    times, names, levels = series(number=240)  # six and a half years
    made = assign(times, names, levels, config("blocked", 0.2, 0.15, block_months=months))
    assert made.block == months
    part, block = np.array(made.part), np.array([(t.year * 12 + t.month - 1) // months for t in times])
    assert all(len(set(part[block == b])) == 1 for b in set(block))
    shares = [(part == k).mean() for k in ("train", "validation", "test")]
    assert shares == pytest.approx([0.65, 0.2, 0.15], abs=0.05)
    quarter = quarters(names, levels)
    assert all({"train", "validation"} <= set(part[quarter == q]) for q in range(8))  # no range of levels is only held out
    # nearer than by chance: the mean error of the quarters' shares
    off = np.mean([abs((part[quarter == q] == "validation").mean() - 0.2) for q in range(8)])
    rng = np.random.default_rng(0)
    chance = []
    for _ in range(50):
        some = np.isin(block, rng.permutation(sorted(set(block)))[: round(0.2 * len(set(block)))])
        chance.append(np.mean([abs(some[quarter == q].mean() - 0.2) for q in range(8)]))
    assert off < np.median(chance)


@pytest.mark.parametrize("kind", ["blocked", "random"])
def test_drawings_share_no_date_until_all_are_dealt(kind):
    times, names, levels = series()
    made = assign(times, names, levels, config(kind, 0.2, 0.0, repeats=5))
    assert all(len(h) == 1 for h in made.held) and made.repeats == 5
    assert [p == "validation" for p in made.part] == [0 in h for h in made.held]
    sizes = np.bincount([h[0] for h in made.held]) / len(times)
    assert len(sizes) == 5 and sizes.min() > 0.12 and sizes.max() < 0.28
    more = assign(times, names, levels, config(kind, 0.2, 0.2, repeats=9))
    test = np.array(more.part) == "test"
    assert not any(h for h, t in zip(more.held, test) if t) and 0.15 < test.mean() < 0.25
    assert all(len([r for r in h if r < 4]) <= 1 for h in more.held) and max(len(h) for h in more.held) >= 2
    drawings = [[r in h for h in more.held] for r in range(9)]
    assert all(0.1 < np.mean(d) < 0.3 for d in drawings) and len({tuple(d) for d in drawings}) == 9  # the second round is dealt anew


def test_a_short_series_gets_shorter_blocks():
    times, names, levels = series(number=20)  # seven months
    made = assign(times, names, levels, config("blocked", 0.2, 0.2))
    assert made.block == 1 and set(made.part) == {"train", "validation", "test"}
    assert assign(times, names, levels, config("blocked", 0.0, 0.0)).part == ["train"] * 30
    tiny = assign(*series(20, 3.0, shuffled=False), config("blocked", 0.1, repeats=2))  # three months: a month is more than a tenth
    assert all(any(r in h for h in tiny.held) for r in (0, 1)) and "train" in tiny.part


@given(
    number=st.integers(8, 60), days=st.floats(3, 30), validation=st.sampled_from([0.0, 0.1, 0.2, 0.5]), test=st.sampled_from([0.0, 0.1, 0.3]),
    kind=st.sampled_from(["blocked", "random", "chronological"]), repeats=st.integers(1, 12),
)  # fmt: skip
@effort(max_examples=40, deadline=None)
def test_every_date_has_one_part_and_every_drawing_leaves_some_to_train(number, days, validation, test, kind, repeats):
    times, names, levels = series(number, days, shuffled=False)
    if kind == "chronological" or not validation:
        repeats = 1
    try:
        made = assign(times, names, levels, config(kind, validation, test, repeats=repeats))
    except ConfigError as error:
        assert "month(s)" in str(error)
        return
    assert set(made.part) <= {"train", "validation", "test"} and len(made.part) == len(made.held) == len(times)
    for r in range(repeats):
        held = [r in h for h in made.held]
        assert not all(h or p == "test" for h, p in zip(held, made.part))
        assert any(held) == (validation > 0) or number * validation < 4


def test_what_is_refused():
    times, names, levels = series(10)
    for given_, told in (
        (config(validation=0.5, test=0.5), "Nothing is left to train"), (config("chronological", repeats=5), "drawn once only"),
        (config(validation=0.0, repeats=2), "nothing to draw anew"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            assign(times, names, levels, given_)
    month = [dt.datetime(2020, 1, d) for d in range(1, 11)]
    with pytest.raises(ConfigError, match="fall into 1 month.*'random'"):
        assign(month, ["a"] * 10, range(10), config())
    assert set(assign(month, ["a"] * 10, range(10), config("random")).part) == {"train", "validation"}
