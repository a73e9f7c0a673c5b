"""Losses of continuous targets by name. `loss(name, given, target, slope_weight)`: given (N, 2, H, W), the value and its expected error
(a standard deviation), target (N, H, W), NaN where ignored; a scalar, float32, 0 where every pixel is ignored.

Beside the loss of that name there are two terms: `slope_weight` times the mean absolute error of the differences between neighbouring
pixels, and a tenth of the negative log-likelihood of the expected error under a Laplace distribution (Kendall and Gal 2017,
arXiv:1703.04977), which does not pull at the value itself.
"""

from __future__ import annotations

import math
from typing import Callable

import torch

from .errors import ConfigError

SPREAD_WEIGHT = 0.1
_LEAST_SPREAD = 1e-4


def loss(name: str, given: torch.Tensor, target: torch.Tensor, slope_weight: float = 0.0) -> torch.Tensor:
    """See above. Raises `ConfigError` for a wrong name, `ValueError` for shapes that disagree."""
    if name not in LOSSES:
        raise ConfigError(f"There is no loss {str(name)[:60]!r} for values.", f"Choose one of: {', '.join(LOSSES)}.")
    if given.ndim != 4 or given.shape[1] != 2 or target.shape != (given.shape[0], *given.shape[2:]):
        raise ValueError(f"given {tuple(given.shape)} and target {tuple(target.shape)} disagree")
    value, spread = given.float().unbind(1)
    known = torch.isfinite(target)
    if not known.any():
        return 0 * value.sum() + 0 * spread.sum()
    error = torch.where(known, value - torch.where(known, target, 0), 0)  # NaN times 0 would be NaN
    inside = error[known]
    total = LOSSES[name](inside)
    if slope_weight:
        total = total + slope_weight * (_steps(error, known, 1) + _steps(error, known, 2)) / 2
    scale = spread[known].clamp_min(_LEAST_SPREAD) / math.sqrt(2)  # of the Laplace distribution with that standard deviation
    return total + SPREAD_WEIGHT * (torch.log(2 * scale) + inside.detach().abs() / scale).mean()


def _steps(error: torch.Tensor, known: torch.Tensor, axis: int) -> torch.Tensor:
    """Mean absolute difference of neighbours' errors along an axis, where both are known."""
    size = error.shape[axis]
    both = known.narrow(axis, 0, size - 1) & known.narrow(axis, 1, size - 1)
    return torch.diff(error, dim=axis)[both].abs().mean() if both.any() else 0 * error.sum()


LOSSES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rmse": lambda error: (error.square().mean() + 1e-12).sqrt(),
    "mae": lambda error: error.abs().mean(),
}
