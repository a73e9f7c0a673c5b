"""Which dates train, validate and test. Neighbours in time are alike: a split that parts them tells the network what it is asked.

Splits: "chronological" and "random" (by quarters of the levels) as methods of the literature have them; "blocked" sets apart whole months, the
same for all reservoirs (blocked cross-validation: Roberts et al. 2017, 10.1111/ecog.02881).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ConfigError
from ..series import PARTS

_STREAM = 11
_QUARTERS = 4
_TRIES = 100


@dataclass(frozen=True)
class Split:
    """`part` of each date: that of the first drawing, one of `PARTS`; `held`: the drawings, from 0, in which it validates; `repeats`: how many;
    `block`: length of the blocks, months."""

    part: list
    held: list
    repeats: int
    block: int = 0


def assign(times: Sequence[dt.datetime], reservoirs: Sequence[str], levels: Sequence[float], config: Any) -> Split:
    """Parts of dates; `times`, names of `reservoirs` and `levels` (m) are those of the chips, in any order.

    `config` has split, validation_share, test_share, repeats, block_months, seed. The dates for test are the same in all drawings. As many
    drawings as there is room for share no date for validation; then they are dealt anew. Raises `ConfigError`.
    """
    check(config, times)
    names, levels = np.asarray(reservoirs), np.asarray(levels, np.float64)
    months = np.array([t.year * 12 + t.month - 1 for t in times])
    seconds = np.array([(t - dt.datetime(1970, 1, 1)).total_seconds() for t in times])
    shares = config.validation_share, config.test_share
    block = block_months(months, config) if config.split == "blocked" else 0
    rng = np.random.default_rng([config.seed, _STREAM])
    if config.split == "chronological":
        test, folds = _last(seconds, names, shares)
    elif config.split == "random":
        test, folds = _dealt(levels, names, shares, rng)
    else:
        test, folds = _blocks(months // block, levels, names, shares, config.repeats, rng)
    held: list[list[int]] = [[] for _ in times]
    for number, fold in zip(range(config.repeats if shares[0] else 0), folds):
        for i in np.flatnonzero(fold):
            held[i].append(number)
    part = [PARTS[2] if test[i] else PARTS[1] if 0 in held[i] else PARTS[0] for i in range(len(times))]
    return Split(part, [tuple(h) for h in held], config.repeats, block)


def block_months(months: np.ndarray, config: Any) -> int:
    """Length of the blocks: that of the settings, or less for a short series, so that each part can get two of them."""
    least = 2 / min([s for s in (config.validation_share, config.test_share) if s > 0], default=1)
    return next((n for n in range(config.block_months, 1, -1) if len(np.unique(months // n)) >= least), 1)


def check(config: Any, times: Sequence[dt.datetime] = ()) -> None:
    """Raise `ConfigError` where the settings of the split contradict each other, or can't be had with these times."""
    if config.validation_share + config.test_share >= 1:
        raise ConfigError("Nothing is left to train with.", "Validation and test share together must stay below 1.")
    if config.repeats > 1 and config.split == "chronological":
        raise ConfigError("The split 'chronological' can be drawn once only.", "Set REPEATS to 1, or choose another split.")
    if config.repeats > 1 and not config.validation_share:
        raise ConfigError("There is nothing to draw anew: the share for validation is 0.", "Set REPEATS to 1, or VALIDATION_SHARE to 0.2.")
    months, wanted = {(t.year, t.month) for t in times}, 1 + (config.validation_share > 0) + (config.test_share > 0)
    if config.split == "blocked" and times and len(months) < wanted:
        raise ConfigError(
            f"All dates fall into {len(months)} month(s); the split 'blocked' needs {wanted}.",
            "Choose the split 'random' or 'chronological'.",
        )


def _last(seconds: np.ndarray, names: np.ndarray, shares: tuple) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Of each reservoir the last dates test, those before them validate."""
    test, validation = np.zeros(len(seconds), bool), np.zeros(len(seconds), bool)
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        own = own[np.argsort(seconds[own], kind="stable")]
        first, second = round((1 - shares[0] - shares[1]) * len(own)), round((1 - shares[1]) * len(own))
        validation[own[first:second]], test[own[second:]] = True, True
    return test, iter([validation])


def _dealt(levels: np.ndarray, names: np.ndarray, shares: tuple, rng: np.random.Generator) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Of each reservoir and each quarter of its levels the same share by chance."""
    groups = []
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        groups.append(np.array_split(own[np.argsort(levels[own], kind="stable")], _QUARTERS))
    every = np.zeros(len(levels), bool)
    test = _drawn(groups, len(levels), [shares[1]], rng)[0] if shares[1] else every
    rest = [[quarter[~test[quarter]] for quarter in group] for group in groups]
    share = shares[0] / (1 - shares[1])

    def folds() -> Iterator[np.ndarray]:
        while True:
            yield from _drawn(rest, len(levels), [share] * _folds(shares), rng)

    return test, folds()


def _drawn(groups: Sequence[Sequence[np.ndarray]], number: int, shares: Sequence[float], rng: np.random.Generator) -> list[np.ndarray]:
    """Masks `(number,)` that share no date, each a share of every group: a group's dates are shuffled within its quarters and dealt one after the
    other to whoever is furthest behind, so that neither quarter nor group is off by more than about one date."""
    masks = np.zeros((len(shares), number), bool)
    wanted = np.array([*shares, 1 - sum(shares)])
    for group in groups:
        owed = rng.permutation(len(wanted)) * 1e-6
        for i in (i for quarter in group for i in rng.permutation(quarter)):
            owed = owed + wanted
            taker = int(np.argmax(np.where(wanted > 1e-9, owed, -np.inf)))
            owed[taker] -= 1
            if taker < len(shares):
                masks[taker, i] = True
    return list(masks)


def _blocks(months: np.ndarray, levels: np.ndarray, names: np.ndarray, shares: tuple, repeats: int, rng: np.random.Generator):
    """Whole blocks of `months`, so dealt that every part gets its share of the dates and of every quarter of each reservoir's levels."""
    units, block = np.unique(months, return_inverse=True)
    counts = np.stack(
        [np.bincount(block, minlength=len(units)), *(np.bincount(block[own], minlength=len(units)) for own in _strata(levels, names))], 1
    )
    test = _grouped(counts, [shares[1]], rng)[0] if shares[1] else np.zeros(len(units), bool)
    rest, number = counts * ~test[:, None], min(_folds(shares), repeats, max(len(units) - 1 - (shares[1] > 0), 1)) if shares[0] else 0

    def folds() -> Iterator[np.ndarray]:
        while True:
            yield from (fold[block] for fold in _grouped(rest, number * [shares[0] / (1 - shares[1])], rng))

    return test[block], folds()


def _folds(shares: tuple) -> int:
    """How many drawings there is room for without a common date."""
    return int((1 - shares[1]) / shares[0] + 1e-9)


def _grouped(counts: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> list[np.ndarray]:
    """Masks of units that share none, by their shares; `counts` `(units, groups)`. Unit after unit, in many orders, goes to whom it brings nearest
    to its share of all groups; the order that ends nearest is taken."""
    wished = np.array([*shares, max(1 - sum(shares), 0.0)])[:, None] * counts.sum(axis=0)
    weight = 1 / np.maximum(counts.sum(axis=0), 1)
    taking = wished[:, 0] > 1e-6 * max(counts[:, 0].sum(), 1)
    best, taken = np.inf, np.zeros(len(counts), int)
    for _ in range(_TRIES):
        got, taker = np.zeros(wished.shape), np.full(len(counts), -1)
        order = rng.permutation(np.flatnonzero(counts[:, 0]))
        for left, unit in zip(range(len(order), 0, -1), order):
            empty = taking & (got[:, 0] == 0)
            open_to = empty if left <= empty.sum() else taking  # nobody goes without
            gain = (np.abs(wished - got) - np.abs(wished - got - counts[unit])) @ weight
            taker[unit] = int(np.argmax(np.where(open_to, gain, -np.inf)))
            got[taker[unit]] += counts[unit]
        score = (np.abs(wished - got) @ weight).sum()
        if score < best:
            best, taken = score, taker
    return [taken == k for k in range(len(shares))]


def _strata(levels: np.ndarray, names: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of the dates in each quarter of each reservoir's levels."""
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        yield from (q for q in np.array_split(own[np.argsort(levels[own], kind="stable")], _QUARTERS) if len(q))
