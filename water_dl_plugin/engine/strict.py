"""Checks of values that a stranger's file holds: of the right type, within limits, or `ValueError` that shows the value."""

from __future__ import annotations

from typing import Any

_DEEPEST = 20


def text(value: Any, limit: int = 300) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError(f"text of at most {limit} characters expected, got {str(value)[:40]!r}")
    value.encode("utf-8")  # half a surrogate pair would fail only later, when a file is written
    if "\0" in value:
        raise ValueError("text with a zero byte")
    return value


def number(value: Any, low: float = -1e300, high: float = 1e300) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"number from {low:g} to {high:g} expected, got {str(value)[:40]}")
    return float(value)


def whole(value: Any, low: int, high: int) -> int:
    if int(number(value, low, high)) != value:
        raise ValueError(f"whole number expected, got {str(value)[:40]}")
    return int(value)


def listing(value: Any, most: int) -> list:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"list of at most {most} expected, got {str(value)[:40]!r}")
    return value


def mapping(value: Any) -> dict:
    """A JSON object, not nested so deeply that whoever shows or copies it runs out of stack."""
    if not isinstance(value, dict):
        raise ValueError(f"object expected, got {str(value)[:40]!r}")
    _shallow(value, _DEEPEST)
    return value


def _shallow(value: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError("nested too deeply")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _shallow(item, depth - 1)


def one_of(value: Any, allowed: tuple) -> str:
    if value not in allowed:
        raise ValueError(f"one of {allowed} expected, got {str(value)[:40]!r}")
    return value
