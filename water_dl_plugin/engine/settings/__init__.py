"""Every setting of the engine's jobs, stated once, a file per job. Nothing heavy is imported here: the Processing forms are made of it."""

from .assessment import AssessConfig
from .chips import ChipsConfig
from .dem import AssessDemConfig
from .downscale import DownscaleConfig
from .flood import AssessFloodConfig, FloodConfig
from .inference import DEVICES, InferConfig
from .lakes import LakesConfig
from .level import EstimateLevelConfig
from .level_assessment import AssessLevelsConfig
from .level_chips import LevelChipsConfig
from .refine import RefineConfig
from .training import LOSSES, SCHEMES, TrainConfig
from .tune import TuneConfig
from .vectorize import VectorizeConfig

__all__ = [
    "DEVICES",
    "LOSSES",
    "SCHEMES",
    "AssessConfig",
    "AssessDemConfig",
    "AssessFloodConfig",
    "AssessLevelsConfig",
    "ChipsConfig",
    "DownscaleConfig",
    "EstimateLevelConfig",
    "FloodConfig",
    "InferConfig",
    "LakesConfig",
    "LevelChipsConfig",
    "RefineConfig",
    "TrainConfig",
    "TuneConfig",
    "VectorizeConfig",
]
