"""Settings of `tunemodel`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config, param
from ..nets import ARCHITECTURES, TRAINERS
from .inference import DEVICES


@dataclass(frozen=True)
class TuneConfig(Config):
    """Settings of `tunemodel`."""

    architecture: str = param(
        "auto",
        "Network",
        "What is tuned, as in Train model. 'auto': unet for classes, demunet for elevations.",
        choices=("auto", *ARCHITECTURES, *TRAINERS),
    )
    trials: int = param(
        20,
        "Trials",
        "So many trainings in all, the first of them with the defaults. A study that is there already goes on until it has so many: to search on, run again with a larger number. Failed trials count.",
        minimum=1,
        maximum=10_000,
    )
    epochs: int = param(
        10,
        "Epochs per trial",
        "Short trainings find good settings sooner than long ones; the final training may be longer. Not used for random_forest and svm, nor when the fixed settings hold stages.",
        minimum=1,
        maximum=10_000,
    )
    time_limit: float = param(
        0.0,
        "Time limit",
        "Then the search ends with the best so far; trainings that are not done are given up, and begun again if the study goes on. 0: none.",
        unit="min",
        minimum=0,
        maximum=1_000_000,
    )
    pruning: bool = param(
        True,
        "Give up poor trials early",
        "A training ends early when, after as many epochs, its figure is worse than that of half the trials before. Saves about half of the time.",
    )
    search: str = param(
        "",
        "Settings to search",
        "Names of settings of Train model, e.g. 'learning_rate, batch_size'. Fewer are searched better. Empty: the network's usual ones.",
    )
    fixed: str = param(
        "",
        "Fixed settings",
        'Settings of Train model that all trials have in common, as JSON, e.g. {"encoder": "resnet34", "loss": "lovasz"}. The others stay at their defaults.',
        multiline=True,
    )
    parallel: int = param(
        0,
        "Trials at once",
        "Each is a program of its own. 0: as many as processors and memory allow, at most 4, since trials that run at once can't learn from each other. 1: the same study each time (on a CPU).",
        minimum=0,
        maximum=64,
        advanced=True,
    )
    seed: int = param(
        0,
        "Seed",
        "Of the search, and of every training: all trials see the same validation chips, and differ in nothing but their settings.",
        minimum=0,
        maximum=2**31 - 1,
        advanced=True,
    )
    device: str = param("auto", "Device", "'auto' takes a CUDA GPU when there is one.", choices=DEVICES, advanced=True)
    threads: int = param(0, "Threads", "Processor threads of all trials together. 0: all.", minimum=0, maximum=1024, advanced=True)
