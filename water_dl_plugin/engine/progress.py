"""Progress and cancel are one callable: `progress(fraction, message)`.

`fraction` is 0..1 of the whole job; `message` is a line for the log or "" for none. The callable raises
`errors.Cancelled` when the user wants to stop, so whoever reports progress also hears Cancel.
"""

from __future__ import annotations

from typing import Callable

Progress = Callable[[float, str], None]


def silent(fraction: float, message: str = "") -> None:
    """Report nothing and never cancel."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """The share `start`..`stop` of a longer job, as a progress callable of its own (0..1)."""

    def inner(fraction: float, message: str = "") -> None:
        progress(start + (stop - start) * min(max(fraction, 0.0), 1.0), message)

    return inner
