"""Every setting of the engine's jobs, stated once, a file per job. Nothing heavy is imported here: the Processing forms are made of it."""

from .assessment import AssessConfig
from .chips import ChipsConfig
from .inference import DEVICES, InferConfig
from .lakes import LakesConfig
from .refine import RefineConfig
from .training import LOSSES, SCHEMES, TrainConfig
from .vectorize import VectorizeConfig

__all__ = [
    "DEVICES",
    "LOSSES",
    "SCHEMES",
    "AssessConfig",
    "ChipsConfig",
    "InferConfig",
    "LakesConfig",
    "RefineConfig",
    "TrainConfig",
    "VectorizeConfig",
]
