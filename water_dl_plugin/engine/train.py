"""Chips folder -> model file and report. Knows tasks and networks by name; nothing here is about one of them."""

from __future__ import annotations

import dataclasses
import os
from contextlib import contextmanager
from typing import Callable, Optional

import torch

from . import nets, tasks
from .chips import ChipSet, with_validation
from .config import parse_json
from .ensemble import EnsembleTrainer
from .errors import ChipsError, ConfigError
from .network_trainer import NetworkTrainer
from .progress import Progress, silent
from .raster import writable
from .samples import Samples
from .settings import LOSSES, TrainConfig
from .trainer import Run, Stage, clock, versions

__all__ = ["Run", "Stage", "clock", "stages", "train", "versions"]


def stages(config: TrainConfig) -> list[Stage]:
    """The stages of a run: from `config.stages`, else one of the plain settings. Raises `ConfigError`."""
    if not config.stages.strip():
        return [Stage(config.loss, config.epochs, config.learning_rate)]
    example = 'Write them as [{"loss": "bce_dice", "epochs": 45, "lr": 1e-4}, {"loss": "lovasz", "epochs": 25, "lr": 1e-5}].'
    try:
        listed = parse_json(config.stages, "Stages (STAGES)", 10_000)
    except ConfigError as error:
        raise ConfigError(error.message, example) from None
    if not isinstance(listed, list) or not 1 <= len(listed) <= 20:
        raise ConfigError("Stages must be a list of 1 to 20.", example)
    result = []
    for item in listed:
        if not isinstance(item, dict) or not set(item) <= {"loss", "epochs", "lr"}:
            raise ConfigError(f"This is no stage: {str(item)[:80]}.", example)
        if "lr" in item and item["lr"] is None:
            raise ConfigError("Stages: Learning rate (lr) is not a number.", example)
        try:  # the plain settings give the limits, and what a stage leaves out
            made = dataclasses.replace(config, stages="", loss=item.get("loss", config.loss), epochs=item.get("epochs", config.epochs), learning_rate=item.get("lr", config.learning_rate))  # fmt: skip
        except ConfigError as error:
            raise ConfigError(f"Stages: {error.message}", error.remedy or example) from None
        result.append(Stage(made.loss, made.epochs, made.learning_rate))
    return result


def train(
    folder: str, output: str, config: TrainConfig, progress: Progress = silent, report: str = "", watch: Optional[Callable[[dict], None]] = None
) -> Run:  # fmt: skip
    """Train a network (or a baseline, see `nets.trainer`) on a chips folder and write the model file `output` (.onnx), its weights beside it and, if named, the report.

    A state is kept beside `output` after each epoch; the same call after a kill goes on from there to the same result. `progress` is
    called at least once per batch; when it raises `Cancelled`, the best model so far is written first if `config.keep_best`.
    `watch` is given the figures of each epoch of a network; what it raises (a search that gives up on a trial) ends the run at once, and no state is kept.
    """
    stages(config)  # a mistake in them shows before chips are read
    if os.path.splitext(output)[1].lower() != ".onnx":
        raise ConfigError(f"{output} is not a model file name.", "Let the name end in .onnx.")
    for path in filter(None, (output, report)):
        writable(path)
    chips = ChipSet(folder)
    before = len(chips.split("validation"))
    chips.manifest = with_validation(chips.manifest, config.validation_share, config.seed)
    if not before:
        drawn = len(chips.split("validation"))
        progress(
            0,
            f"The chips folder sets no chips apart for validation: {f'{drawn} are drawn at random. Neighbours may leak.' if drawn else 'there is none, and the best epoch is the one with the lowest training loss.'}",
        )
    manifest = chips.manifest
    task = tasks.make(manifest)
    config = fitting(config, task)
    if hasattr(task, "configure"):
        task.configure(config)
    plan = stages(config)
    learn, check = (Samples(chips, chips.split(s), task) for s in ("train", "validation"))
    if not len(learn):
        raise ChipsError("No chip is left for training.", "Export again with smaller shares for validation and test.")
    with _settings_of_torch(config) as device:
        several = getattr(task, "ensemble", False) and watch is None  # a search tries settings, for which one member will do
        trainer = nets.trainer(config.architecture) or (EnsembleTrainer if several else NetworkTrainer)
        return trainer(chips, task, learn, check, config, plan, output, report, device, progress, watch).run()


def fitting(config: TrainConfig, task) -> TrainConfig:
    """`config` with what is 'auto' settled by the task. Raises `ConfigError` for a network or a loss that is for other tasks."""
    losses, needs = getattr(task, "losses", LOSSES), tuple(getattr(task, "arguments", {}))
    name = getattr(task, "architecture", "unet") if config.architecture == "auto" else config.architecture
    loss = losses[0] if config.loss == "auto" else config.loss
    gives = "image" if task.spatial else "number"
    if nets.usual(name, "gives") != gives or any(nets.takes(name, need) != (need in needs) for need in {"elevations", *needs}):
        raise ConfigError(f"The network {name} is not for these chips.", "Set the network to auto.")
    named = [loss] if not config.stages.strip() else [s.loss for s in stages(dataclasses.replace(config, loss=loss))]
    wrong = [n for n in named if n not in losses]
    if wrong:
        raise ConfigError(f"The loss {wrong[0]} is not for these chips.", f"Choose one of: {', '.join(losses)}.")
    if config.portable and ("elevations" in needs or gives != "image"):
        what = "elevations" if gives == "image" else "one number per image"
        raise ConfigError(f"Deepness and GeoDeep can't apply a model of {what}.", "Switch 'Also for Deepness and GeoDeep' off.")
    own = {key: getattr(config, key) or nets.usual(name, key) for key in ("learning_rate", "epochs")}
    return dataclasses.replace(config, architecture=name, loss=loss, **own)


@contextmanager
def _settings_of_torch(config: TrainConfig):
    """Device and threads of this run; torch's own settings are as before afterwards, QGIS lives on in the same process."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("This torch can't use CUDA.", "Run 'Install packages' with CUDA chosen, or set the device to auto.")
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    threads, deterministic, warn = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield device
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn)
