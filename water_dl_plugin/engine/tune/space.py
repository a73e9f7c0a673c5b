"""What may vary in a search, by network. Pure: neither Optuna nor torch is needed here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Union

from .. import nets
from ..config import params, parse_json
from ..errors import ConfigError
from ..nets import ATTENTIONS, TRAINERS
from ..settings import TrainConfig, TuneConfig


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones if `low` is one. `log`: as many between 1 and 10 as between 10 and 100."""

    low: Union[int, float]
    high: Union[int, float]
    log: bool = False


#: Setting -> `Range`, or a tuple of choices.
Space = dict[str, Union[Range, tuple]]

# Ranges that hold the defaults of `TrainConfig` and what papers use; choices that cost several times as much (resnet50) are left out.
_AXES: Space = {
    "learning_rate": Range(3e-5, 2e-2, log=True),
    "loss": (),  # the task's
    "batch_size": (4, 8, 16),
    "weight_decay": Range(1e-6, 1e-1, log=True),
    "encoder": ("resnet18", "resnet34"),
    "attention": ATTENTIONS,
    "depth": (2, 3, 4),
    "width": (16, 24, 32, 48),
    "flips": (True, False),
    "brightness": Range(0.0, 0.3),
    "noise": Range(0.0, 0.1),
    "normalisation": ("percentile", "minmax", "zscore", "equalize"),
    "slope_weight": Range(0.0, 2.0),
    "optimiser": ("adamw", "adam"),
    "schedule": ("polynomial", "cosine", "constant"),
    "gradient_clip": (0.0, 0.5, 1.0, 5.0),
    "class_weights": ("", "balanced"),
    "absolute": (False, True),
    "trees": Range(50, 400, log=True),
    "features_per_split": Range(1, 1),  # the number of bands
    "pixels_per_class": Range(1000, 50_000, log=True),
    "svm_c": Range(0.1, 1000.0, log=True),
    "svm_gamma": Range(1e-3, 10.0, log=True),
}
_ANY_NETWORK = ("learning_rate", "loss", "batch_size", "weight_decay", "flips", "brightness", "noise", "normalisation")
_USUAL = {
    "random_forest": ("trees", "features_per_split", "pixels_per_class"),
    "svm": ("svm_c", "svm_gamma", "pixels_per_class", "normalisation"),
}
_RARE = ("slope_weight", "optimiser", "schedule", "gradient_clip", "class_weights", "absolute")  # only where they are asked for
_OWN = {"epochs": "Epochs per trial", "architecture": "Network", "seed": "Seed", "device": "Device", "threads": "Threads"}
_NO_MATTER = ("resume", "keep_best", "licence", "card", "portable", "members")


def base(config: TuneConfig) -> TrainConfig:
    """The settings that all trials have in common, and the defaults of the others. Raises `ConfigError`."""
    given = fixed(config)
    return TrainConfig.from_json({
        **given, "architecture": config.architecture, "epochs": config.epochs, "seed": config.seed, "device": config.device,
        "resume": False, "keep_best": False,
    })  # fmt: skip


def fixed(config: TuneConfig) -> dict:
    """The fixed settings, parsed. Raises `ConfigError`."""
    if not config.fixed.strip():
        return {}
    example = 'Write them as {"encoder": "resnet34", "loss": "lovasz"}.'
    try:
        given = parse_json(config.fixed, "Fixed settings (FIXED)", 20_000)
    except ConfigError as error:
        raise ConfigError(error.message, example) from None
    if not isinstance(given, dict):
        raise ConfigError("Fixed settings must be a JSON object.", example)
    for name in given:
        if name in _OWN:
            raise ConfigError(f"{name} is not one of the fixed settings.", f"Use '{_OWN[name]}' of this form.")
        if name in _NO_MATTER:
            raise ConfigError(f"{name} makes no difference to a search.", "Leave it out; give it to Train model.")
    return given


def searchable(start: TrainConfig, task, elevations_only: bool) -> dict[str, bool]:
    """Setting -> is it one of the usual ones, for all that have an effect here. `start` is settled (`train.fitting`), without 'auto'."""
    name = start.architecture
    if name in TRAINERS:
        return dict.fromkeys(_USUAL[name], True) | ({"class_weights": False} if hasattr(task, "balance") else {})
    usual = dict.fromkeys((*(a for a in ("encoder", "attention", "depth", "width") if nets.takes(name, a)), *_ANY_NETWORK), True)
    found = usual | dict.fromkeys(_RARE, False)
    gone = []
    if start.stages.strip():
        gone += ["learning_rate", "loss"]  # each stage has its own
    if start.initial_weights:
        gone += ["encoder", "attention", "depth", "width", "absolute", "normalisation"]  # those of the model that it starts from
    if elevations_only:
        gone += ["normalisation", "brightness", "noise"]  # heights keep their values
    if start.monitor == "loss":
        gone += ["loss", "slope_weight", "class_weights"]  # two losses can't be compared
    if not hasattr(task, "balance"):
        gone.append("class_weights")
    if not getattr(task, "arguments", {}).get("elevations"):
        gone.append("slope_weight")
    if not nets.takes(name, "absolute"):
        gone.append("absolute")
    if len(task_losses(task)) < 2:
        gone.append("loss")
    return {k: v for k, v in found.items() if k not in gone}


def task_losses(task) -> tuple:
    from ..settings import LOSSES

    return tuple(getattr(task, "losses", LOSSES))


def make(config: TuneConfig, start: TrainConfig, task, bands: int, chips: int, elevations_only: bool = False) -> Space:
    """The space of a search over chips of so many `bands`, `chips` of them to train with. Raises `ConfigError`."""
    known, held = searchable(start, task, elevations_only), fixed(config)
    asked = list(dict.fromkeys(n.strip().lower() for n in config.search.replace(";", ",").split(",") if n.strip()))
    every = {item.name for item in params(TrainConfig)}
    for name in asked:
        if name not in known:
            what = (
                "has no effect on these chips with this network"
                if name in _AXES
                else "can't be searched"
                if name in every
                else "is no setting"
            )
            raise ConfigError(f"{name[:60]} {what}.", f"What can be searched: {', '.join(n for n in known if n not in held)}.")
        if name in held:
            raise ConfigError(f"{name} is fixed, and can't be searched as well.", "Take it out of one of the two.")
    names = asked or [n for n, usual in known.items() if usual and n not in held]
    if not names:
        raise ConfigError("Nothing is left to be searched: all usual settings are fixed.", "Name other ones under 'Settings to search'.")
    return {name: _axis(name, start, task, bands, chips) for name in names}


def _axis(name: str, start: TrainConfig, task, bands: int, chips: int):
    axis = _AXES[name]
    if name == "loss":
        return task_losses(task)
    if name == "features_per_split":
        return Range(1, bands)
    if name == "batch_size":
        return tuple(size for size in axis if size <= max(chips, 8))  # a larger batch would be the same one
    if name == "pixels_per_class" and start.architecture == "svm":
        return replace(axis, high=10_000)  # its time grows with their square
    return axis


def defaults(space: Space, start: TrainConfig) -> dict[str, Any]:
    """The point of the space where a training without a search stands: the first trial."""
    return {n: min(max(getattr(start, n), a.low), a.high) if isinstance(a, Range) else getattr(start, n) for n, a in space.items()}


def to_json(space: Space) -> dict:
    return {n: {"low": a.low, "high": a.high, "log": a.log} if isinstance(a, Range) else list(a) for n, a in space.items()}


def position(axis: Union[Range, tuple], value: Any) -> float:
    """Where a value lies on its axis, from 0 to 1."""
    if not isinstance(axis, Range):
        return axis.index(value) / max(len(axis) - 1, 1)
    if axis.high == axis.low:
        return 0.5
    low, high, value = (math.log(n) for n in (axis.low, axis.high, value)) if axis.log else (axis.low, axis.high, value)
    return (value - low) / (high - low)
