"""Prediction intervals from errors out of sample (split conformal prediction: Lei et al. 2018, 10.1080/01621459.2017.1307116). Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np

#: A reservoir's own errors are taken from so many on; with fewer the width would hang on two or three of them.
ENOUGH = 20


def half_width(errors: Sequence[float], coverage: float = 0.9) -> Optional[float]:
    """Half the width of an interval around an estimate that holds the truth in the share `coverage` (0..1) of cases, in the errors' unit.

    It does so whatever the errors' distribution, if the new date is like those that the errors are of (exchangeable). None if they are too
    few to tell: 90 % takes 9, 95 % 19.
    """
    known = np.sort(np.abs(np.asarray(errors, np.float64)))
    known = known[np.isfinite(known)]
    place = math.ceil((len(known) + 1) * coverage - 1e-9)
    return float(known[place - 1]) if 1 <= place <= len(known) else None
