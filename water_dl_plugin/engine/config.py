"""A setting is stated once: as a field of a frozen dataclass, with default, unit, limits, choices and help.

The Processing form, `to_json`, the engine's own check and the reference page are all read from that field::

    @dataclass(frozen=True)
    class InferConfig(Config):
        overlap: int = param(64, "Overlap", "Pixels that neighbouring windows share.", unit="px", minimum=0)
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Optional, Union, get_type_hints

from .errors import ConfigError
from .progress import Progress, silent


def param(
    default: Any,
    label: str,
    help: str,
    *,
    unit: str = "",
    minimum: Optional[float] = None,
    maximum: Optional[float] = None,
    choices: tuple = (),
    advanced: bool = False,
    multiline: bool = False,
    file: str = "",
    of_input: str = "",
):
    """A dataclass field that is also a parameter.

    `unit` is shown behind the label; `minimum`/`maximum` are inclusive; `choices` lists the allowed strings;
    `file` makes a text a path with that file filter; `of_input` names the vector parameter whose fields are
    offered (not one that takes rasters, too: QGIS 3.22 dies when such a form shows a raster).
    """
    meta = {
        "label": label, "help": help, "unit": unit, "minimum": minimum, "maximum": maximum, "choices": tuple(choices),
        "advanced": advanced, "multiline": multiline, "file": file, "of_input": of_input,
    }  # fmt: skip
    return field(default=default, metadata={"param": meta})


@dataclass(frozen=True)
class Param:
    """One setting as a form needs it. `kind` is int, float, bool or str; `optional` allows None."""

    name: str
    kind: type
    optional: bool
    default: Any
    label: str
    help: str
    unit: str
    minimum: Optional[float]
    maximum: Optional[float]
    choices: tuple
    advanced: bool
    multiline: bool
    file: str
    of_input: str


@dataclass(frozen=True)
class Config:
    """Base of all settings. Checked when made, so that a bad value can't travel."""

    def __post_init__(self):
        for item in params(type(self)):
            object.__setattr__(self, item.name, check(item, getattr(self, item.name)))

    def to_json(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Any):
        """Settings from a parsed JSON object. Raises `ConfigError` for unknown names and wrong values."""
        if not isinstance(data, dict):
            raise ConfigError(f"{cls.__name__} needs a JSON object.", "Copy the settings from a report or a model's information.")
        known = {item.name for item in params(cls)}
        unknown = sorted(set(map(str, data)) - known)
        if unknown:
            raise ConfigError(f"Unknown setting {', '.join(unknown)}.", f"Known are: {', '.join(sorted(known))}.")
        return cls(**data)

    def replaced_by(self, path: str, progress: Progress = silent) -> Config:
        """These settings, but those that a JSON file holds from there; `progress` is told which. Raises `ConfigError`."""
        try:
            with open(path, encoding="utf-8-sig") as file:
                found = parse_json(file.read(5_000_001), f"The settings file {path}")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The settings file {path} can't be read: {error}.", "Choose a JSON file, e.g. one of Tune model.") from None
        made, before = type(self).from_json(found), self.to_json()
        for name in found:
            now = getattr(made, name)
            told = "as in the form" if now == before[name] else f"instead of {before[name]!r}"
            progress(0, f"From the settings file: {name} {now!r}, {told}.")
        return type(self)(**{**before, **{name: getattr(made, name) for name in found}})


def params(cls: type) -> list[Param]:
    """The settings of a `Config` class, in the order they are written."""
    hints = get_type_hints(cls)
    result = []
    for item in dataclasses.fields(cls):
        kind, optional = _plain(hints[item.name])
        result.append(Param(item.name, kind, optional, item.default, **item.metadata["param"]))
    return result


def _plain(hint: Any) -> tuple[type, bool]:
    if getattr(hint, "__origin__", None) is Union:
        return next(a for a in hint.__args__ if a is not type(None)), True
    return hint, False


_LARGEST = 1e300  # NaN, infinity and whole numbers that no float holds are beyond it


def check(item: Param, value: Any) -> Any:
    """`value`, made of the right type, or `ConfigError` with the limits."""
    name = f"{item.label} ({item.name.upper()})"
    if value is None or (value == "" and item.kind is not str):
        if item.optional:
            return None
        raise ConfigError(f"{name} is not set.", f"The default is {item.default!r}.")
    if item.kind is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be true or false, not {repr(value)[:60]}.")
        return value
    if item.kind is str:
        if not isinstance(value, str):
            raise ConfigError(f"{name} must be text, not {type(value).__name__}.")
        if item.choices and value not in item.choices:
            raise ConfigError(f"{name} can't be {value[:60]!r}.", f"Choose one of: {', '.join(item.choices)}.")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
        shown = "a larger one" if isinstance(value, int) and not isinstance(value, bool) else repr(value)[:60]
        raise ConfigError(f"{name} must be a finite number, not {shown}.")
    if item.kind is int and value != int(value):
        raise ConfigError(f"{name} must be a whole number, not {value}.")
    low, high = item.minimum, item.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"at least {low:g}" if high is None else f"at most {high:g}" if low is None else f"from {low:g} to {high:g}"
        raise ConfigError(f"{name} is {value:g}.", f"It must be {limits}{' ' + item.unit if item.unit else ''}.")
    return item.kind(value)


def parse_json(text: str, what: str, limit: int = 5_000_000) -> Any:
    """JSON from a stranger: bounded in size, no NaN or Infinity, no runaway nesting. Raises `ConfigError`."""

    def refuse(token):
        raise ValueError(f"{token} is not a number")

    def number(token):  # 1e999 is written like a number, but is none that a float holds
        value = float(token)
        return value if math.isfinite(value) else refuse(token[:20])

    def whole(digits):
        if len(digits) > 400:  # before Python 3.11 such a number takes time that grows with its square
            raise ValueError(f"a number has {len(digits)} digits")
        return int(digits)

    if len(text) > limit:
        raise ConfigError(f"{what} is {len(text)} characters long; {limit} are allowed.")
    try:
        return json.loads(text, parse_constant=refuse, parse_float=number)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{what} is not valid JSON: {str(error)[:200]}.") from None
