"""What a model for finer elevations wants: which bands in which order, and how far the data at hand are from those of its training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from .. import strict
from ..bundle import ModelInfo
from ..errors import ModelError
from ..grid import Grid, spacing_m
from ..raster import RESAMPLING, Raster
from .finer import MOST
from .predictors import KINDS, Layer
from .vertical import FOOT
from .vertical import KINDS as VERTICAL

_PLURAL = {"elevation": "elevation models", "image": "image bands", "class": "class bands"}
_METRES = {"m", "metre", "meter", "metres", "meters"}
FEET = {"ft", "foot", "feet", "ftus", "us-ft", "us survey foot", "us survey feet", "foot_us", "international foot"}


@dataclass(frozen=True)
class Wanted:
    """`names`, `kinds`, `resamplings` of the bands; how many times finer than the base the target was (`factor`), its `unit`, which offset of
    the elevation models was taken away (`vertical`), and its pixel size in m, or None."""

    names: tuple
    kinds: tuple
    resamplings: tuple
    factor: float
    unit: str
    vertical: str
    pixel_size_m: Optional[float]

    def __str__(self) -> str:
        return ", ".join(f"{k}. {name} ({kind})" for k, (name, kind) in enumerate(zip(self.names, self.kinds), start=1))

    @property
    def elevations(self) -> int:
        return self.kinds.count("elevation")


def wanted(info: ModelInfo, channels: int) -> Wanted:
    """Out of a model file. Raises `ModelError` for a model that is for something else, or whose file is not as it should be."""
    if info.task != "regression" or "target" not in info.details:
        raise ModelError(
            f"This is a model for {info.task if info.task != 'regression' else 'numbers that are no elevations'}.",
            "Choose a model that was trained on chips of elevations (exportchips with TARGET=values, then trainmodel).",
        )
    try:
        target, bands = strict.mapping(info.details["target"]), strict.listing(info.details["bands"], 1000)
        kinds = tuple(strict.one_of(b["kind"], KINDS) for b in bands)
        found = Wanted(
            tuple(name for name, _ in info.bands), kinds, tuple(strict.one_of(b.get("resampling", ""), ("", *RESAMPLING)) for b in bands),
            strict.number(target["factor"], 0.9, MOST), strict.text(target.get("unit", "m"), 60),
            strict.one_of(target.get("vertical", "constant"), VERTICAL), info.pixel_size_m,
        )  # fmt: skip
        if len(kinds) != len(info.bands) or channels != 2 or "elevation" in kinds[found.elevations :]:
            raise ValueError(f"{len(kinds)} kinds for {len(info.bands)} bands, {channels} channels")
        if info.normalisation.elevations != tuple(range(found.elevations)):
            raise ValueError("the normalisation has other elevation bands")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"What the model file says of its elevations can't be understood ({type(error).__name__}: {str(error)[:120]}).",
            "Get the file again from its maker, or train a new model with trainmodel.",
        ) from None
    return found


def layers(found: Wanted, dems: Sequence[str], others: Sequence[str]) -> list[Layer]:
    """The rasters as the model takes them: elevation models first, then the further rasters, whose kinds are those of training.
    Raises `ModelError` if there are more or fewer than the model wants."""
    counts = [_bands(path) for path in (*dems, *others)]
    heights, further = sum(counts[: len(dems)]), sum(counts[len(dems) :])
    if (heights, further) != (found.elevations, len(found.kinds) - found.elevations):
        raise ModelError(
            f"The model wants {_counted(found.kinds)}, in this order: {found}. Given are {_number(heights, 'elevation')} "
            f"and {further} band{'' if further == 1 else 's'} of further rasters.",
            "Choose the elevation models (the base first) as INPUT and the further rasters, in the order of training, as STACK.",
        )
    result, at = [], 0
    for path, count in zip((*dems, *others), counts):
        for first, last in _alike([*zip(found.kinds, found.resamplings)][at : at + count]):
            chosen = "" if (first, last) == (0, count) else ",".join(str(k + 1) for k in range(first, last))
            result.append(Layer(path, chosen, found.kinds[at + first], found.resamplings[at + first]))
        at += count
    return result


def _bands(path: str) -> int:
    with Raster(path) as raster:
        return len(raster.bands)


def _alike(items: Sequence) -> list[tuple[int, int]]:
    """First and end places of the runs of equal items."""
    starts = [k for k in range(len(items)) if k == 0 or items[k] != items[k - 1]]
    return list(zip(starts, [*starts[1:], len(items)]))


def _number(count: int, kind: str) -> str:
    return f"{count} {_PLURAL[kind] if count != 1 else _PLURAL[kind][:-1]}"


def _counted(kinds: Sequence[str]) -> str:
    return ", ".join(_number(kinds.count(kind), kind) for kind in KINDS if kind in kinds)


def doubts(found: Wanted, names: Sequence[str], base_m: float, grid: Grid) -> list[str]:
    """Warnings: pixels that are not as in training (`base_m`: side of the base's in m), bands in another order. Raises nothing."""
    lines, size = [], grid.pixel_size_m
    trained = found.pixel_size_m
    if trained and size:
        coarse = trained * found.factor
        if base_m < 0.67 * coarse:
            lines.append(
                f"Warning: the base's pixels are {base_m:.3g} m; the model was trained to make {coarse:.3g} m finer, and does not know "
                "terrain of such detail. Average the base first, or train a model for it."
            )
        elif base_m > 1.5 * coarse:
            lines.append(
                f"Warning: the base's pixels are {base_m:.3g} m; the model was trained to make {coarse:.3g} m finer. Choose a finer base."
            )
        if not 0.67 < size / trained < 1.5:
            lines.append(
                f"Warning: the pixels of the result are {size:.3g} m, those of the training {trained:.3g} m. Leave pixel size and grid empty for those of the training."
            )
    if list(names) != list(found.names) and sorted(names) == sorted(found.names):
        lines.append(f"Warning: the bands come as {', '.join(names)}; the model was trained with {', '.join(found.names)}.")
    return lines


def check_unit(found: Wanted, unit: str) -> None:
    """Raise `ModelError` where the base says that it is in feet and the model is for metres, or the other way round."""
    known = [{*_METRES} if u in _METRES else {*FEET} if u in FEET else None for u in (unit.strip().lower(), found.unit.strip().lower())]
    if None not in known and known[0] != known[1]:
        raise ModelError(
            f"The base is in {unit}, the model is for elevations in {found.unit}.",
            "Convert the base with the raster calculator (1 ft = 0.3048 m).",
        )


def zfactor(grid: Grid, unit: str) -> float:
    """Map units that one unit of height is long on the ground: what relief shading multiplies heights by."""
    sides, ground = grid.pixel_size, spacing_m(grid)
    metres = FOOT if unit.strip().lower() in FEET else 1.0
    return metres * math.sqrt(sides[0] * sides[1] / (ground[0] * ground[1]))
