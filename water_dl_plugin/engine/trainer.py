"""What every way of training shares: what it is given, what the model file says of it, and what the report is made from."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import numpy as np
import torch

from . import bundle
from .chips import Chip, ChipSet
from .errors import ConfigError
from .normalise import Normalisation
from .progress import Progress
from .samples import Samples
from .settings import TrainConfig
from .version import version


@dataclass
class Run:
    """What a training run came to; the report is made from it."""

    title: str
    history: list = field(default_factory=list)
    best_epoch: Optional[int] = None
    best_figure: float = math.nan
    evaluation: Any = None
    validation: list = field(default_factory=list)
    bands: list = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    facts: list = field(default_factory=list)
    subtitle: str = ""
    look: Any = None


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one loss and one learning rate that decays over it."""

    loss: str
    epochs: int
    lr: float


@dataclass
class Trainer:
    """One run. A subclass says in `run()` how it learns, writes the model file and the report, and returns the `Run`.

    `plan` are the stages, `device` is torch's: both are the affair of networks. `arguments` are the architecture's own.
    """

    chips: ChipSet
    task: Any
    learn: Samples
    check: Samples
    config: TrainConfig
    plan: list
    output: str
    report: str
    device: torch.device
    progress: Progress
    watch: Optional[Callable[[dict], None]] = None

    def __post_init__(self):
        self.arguments: dict = {}

    def run(self) -> Run:
        raise NotImplementedError

    def class_weights(self) -> Optional[list[float]]:
        """One number per class, or None. Raises `ConfigError`."""
        text = self.config.class_weights.strip()
        if not text:
            return None
        if text == "balanced":
            if not hasattr(self.task, "balance"):
                raise ConfigError(f"The task {self.chips.manifest.task} has no classes to balance.", "Leave the class weights empty.")
            return self.task.balance(self.learn.raw(i)[2] for i in range(len(self.learn)))
        try:
            return [float(t) for t in text.split(",")]
        except ValueError:
            raise ConfigError(f"Class weights can't be {text[:60]!r}.", "Write 'balanced', or one number per class: '1, 3'.") from None

    def data_hash(self) -> str:
        return hashlib.sha256(json.dumps(self.chips.manifest.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def info(self, normalisation: Normalisation, figures: dict, margin: int = 0, multiple: int = 1, **course) -> bundle.ModelInfo:
        """What the model file says; `course` tells how training went, in words of JSON."""
        summary = {
            "chips": len(self.learn), "validation_chips": len(self.check), **course, "seed": self.config.seed, "data": self.data_hash(),
            "settings": self.config.to_json(), "figures": {k: bundle.finite(v) for k, v in figures.items() if k != "loss_valid"}, "versions": self.versions(),
        }  # fmt: skip
        manifest = self.chips.manifest
        return bundle.ModelInfo(
            task=manifest.task, bands=tuple((b["name"], b.get("unit", "")) for b in manifest.bands), normalisation=normalisation,
            architecture=self.config.architecture, arguments=self.arguments, pixel_size_m=manifest.pixel_size_m, chip_size=manifest.tile_size,
            margin=margin, multiple=multiple, training=summary, licence=self.config.licence, card=self.config.card, **self.task.info(),
        )  # fmt: skip

    def told(self, predict: Callable, evaluator, facts: list, **more) -> Run:
        """The `Run`; `predict(pixels, valid) -> (channels, rows, cols)` is what the model makes of a chip as it was read."""
        chips = self.chips

        def look(chip: Chip):
            pixels, valid = chips.image(chip)
            return pixels, valid, predict(pixels, valid), self.task.target(chips, chip)

        shown = self.check.chosen if len(self.check) else self.learn.chosen
        keep = np.unique(np.linspace(0, len(shown) - 1, 200).astype(int))  # enough to find good and bad ones, however large the folder
        return Run(
            title=f"Training of {os.path.basename(self.output)}", evaluation=evaluator, validation=[shown[i] for i in keep], bands=[b["name"] for b in chips.manifest.bands],
            settings=self.config.to_json(), versions=self.versions(), facts=[("Chips", f"{len(self.learn)} + {len(self.check)}"), *facts],
            subtitle=f"{' with '.join(filter(None, [self.config.architecture, ', '.join(_words(self.arguments))]))} on {os.path.basename(os.path.normpath(chips.folder))}", look=look, **more,
        )  # fmt: skip

    def versions(self) -> dict[str, str]:
        return versions()


def _words(arguments: dict) -> list[str]:
    """The architecture's arguments for people: an encoder by its name, numbers with theirs; switches that are off and lists say nothing."""
    numbers = {k: v for k, v in arguments.items() if not isinstance(v, (list, tuple)) and v is not False}
    return [str(v) if isinstance(v, str) else k if v is True else f"{k} {v}" for k, v in numbers.items()]


def versions() -> dict[str, str]:
    import onnxruntime

    return {
        "Water DL": version(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "system": platform.platform(),
    }


def clock(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return (
        f"{int(seconds // 60)} min {int(seconds % 60)} s" if seconds < 3600 else f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    )
