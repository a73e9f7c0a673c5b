"""Settings of `assesslevels`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config, param
from . import series


@dataclass(frozen=True)
class AssessLevelsConfig(Config):
    """Settings of `assesslevels`."""

    limit: float = param(1.0, "Off from", "Levels that err by more are counted as off.", unit="m", minimum=0.001, maximum=1000)
    dates: str = param(
        "unseen",
        "Figures are of",
        "Which dates the figures at the top of the report and the outputs are of; the tables tell all. 'unseen': those that were not trained with. "
        "'validation': held out, but the prediction interval was calibrated on them. 'test': held out and used for nothing. 'new': those that are no "
        "part of the training's series. 'train': trained with, which is no test of a model.",
        choices=("unseen", "all", "test", "validation", "new", "train"),
    )
    method: str = param(
        "",
        "Method",
        "Which method the figures at the top and the outputs are of. Empty: the first of combined, network, area, shoreline that is there.",
    )
    sound_only: bool = param(
        False,
        "Without flagged levels",
        "Leave out levels that are flagged as doubtful, for cloud or because they lie outside the trained range.",
    )
    tolerance: float = series.tolerance()
    gauge_reservoir: str = series.gauge_reservoir()
    gauge_date: str = series.gauge_date()
    gauge_level: str = series.gauge_level()
    gauge_date_format: str = series.gauge_date_format()
    unit: str = series.unit()
    time_zone: str = series.time_zone()
    missing: str = series.missing()
    estimate_reservoir: str = param(
        "", "Estimates: column of reservoirs", "Only for a table that is not of Estimate level. Empty: guessed by the name.", advanced=True
    )
    estimate_date: str = param(
        "",
        "Estimates: column of dates",
        "Only for a table that is not of Estimate level. Empty: guessed by the name. Times are UTC.",
        advanced=True,
    )
    estimate_level: str = param(
        "",
        "Estimates: column of levels",
        "Only for a table that is not of Estimate level: levels in m. Empty: guessed by the name.",
        advanced=True,
    )
