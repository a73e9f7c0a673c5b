"""Several networks of one kind as one model: each from other first weights, and, where the split was drawn more than once, on other chips."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import nn

from .chips import Chip
from .network_trainer import NetworkTrainer
from .progress import Progress, part
from .samples import Samples

_LOOKS = 12  # at the validation chips in a member's training: enough for a curve
_SECONDS = 30.0  # between two savings of a member's state: its epochs take seconds, its weights and moments 100 MB and more


class Members(nn.Module):
    """Networks side by side: (N, bands, H, W) -> (N, members)."""

    def __init__(self, nets):
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([net(x) for net in self.nets], 1)


@dataclass
class EnsembleTrainer(NetworkTrainer):
    """Trains `config.members` networks one after the other and writes them as one model file. Cancel keeps those that are done.

    Member k learns from the chips of drawing k (modulo the number of drawings) of the split. What the model is judged by are its answers out
    of sample: of each chip the mean over the members that have not learnt from it. The task is told all answers: `remember(chips, given
    (n, members), unseen (n,))`, NaN where every member has seen the chip.
    """

    half = True  # five networks are a large file

    def __post_init__(self):
        self.trained: list[NetworkTrainer] = []  # the monitored figure is tried before there are any
        super().__post_init__()
        self.repeats = max(int(self.chips.manifest.target.get("repeats", 1)), 1)
        if self.monitor != "last":
            self.progress(
                0, f"Warning: {self.monitor} on the held-out dates picks the epoch, so the interval that they calibrate is too narrow."
            )

    def _train(self) -> None:
        try:
            for k in range(self.config.members):
                member = self._member(k)
                member._train()
                member.net.load_state_dict(member.best_state)
                self.trained.append(member)
        finally:
            if self.trained:
                self._join()

    def _member(self, k: int) -> NetworkTrainer:
        count, path = self.config.members, os.path.join(self.folder, f"member{k + 1}.onnx")
        told = _seldom(part(self.progress, k / count, (k + 1) / count), f"Member {k + 1} of {count}: ", self.epochs)
        learn, check = (Samples(self.chips, chosen, self.task) for chosen in self._drawing(k))
        config = dataclasses.replace(self.config, seed=self.config.seed + k)
        seldom = max(self.epochs // _LOOKS, 1) if self.monitor == "last" else 1
        return NetworkTrainer(
            self.chips, self.task, learn, check, config, self.plan, path, "", self.device, told, fitted=self.normalisation, keep_every=_SECONDS,
            look_every=seldom,
        )  # fmt: skip

    def _drawing(self, k: int) -> tuple[list[Chip], list[Chip]]:
        """The chips that member k learns from, and those that validate it."""
        used = [c for c in self.chips.manifest.chips if c.split != "test"]
        held = [self._holds(k, c) for c in used]
        return [c for c, h in zip(used, held) if not h], [c for c, h in zip(used, held) if h]

    def _holds(self, k: int, chip: Chip) -> bool:
        """Does this chip validate member k? (A split that was drawn by training itself is told by the chip's part alone.)"""
        return k % self.repeats in chip.held if self.repeats > 1 else chip.split == "validation"

    def _join(self) -> None:
        self.net = Members([m.net for m in self.trained]).to(self.device)
        self.best_state = self.net.state_dict()
        shortest = min(len(m.history) for m in self.trained)
        rows = [[m.history[i] for m in self.trained] for i in range(shortest)]
        self.history = [_mean(row) for row in rows if all("loss_valid" in r for r in row) or row is rows[-1]]
        self.best = {"epoch": shortest, "figure": np.mean([m.best["figure"] for m in self.trained]), "loss": self.plan[-1].loss}

    @torch.no_grad()
    def _evaluate(self, criterion=None, tick=lambda k: None, only: Optional[int] = None):
        if not self.trained:
            return super()._evaluate(criterion, tick, only)
        self.net.eval()
        everything = Samples(self.chips, list(self.chips.manifest.chips), self.task)
        given, targets = [], []
        for images, target in everything.batches(self.batch, self.normalisation):
            with self._autocast():
                output = self.net(self._to(images))
            self.progress(1, "")
            given.append(self.task.activate(output.float()).cpu().numpy())
            targets.append(target)
        given, targets = np.concatenate(given), np.concatenate(targets)
        new = np.array([[c.split == "test" or self._holds(k, c) for k in range(len(self.trained))] for c in everything.chosen])
        unseen = np.where(new.any(1), (given * new).sum(1) / np.maximum(new.sum(1), 1), np.nan)
        self.task.remember(everything.chosen, given, unseen)
        evaluator = self.task.evaluator()
        held = np.isfinite(unseen) & [c.split != "test" for c in everything.chosen]
        if held.any():
            evaluator.update(unseen[held, None], targets[held])
        return evaluator, {"loss_valid": math.nan, **(evaluator.figures() if held.any() else {})}

    def keep_weights(self) -> None:
        """The first member's: to go on from, one is enough."""
        self._keep_weights(self.trained[0].net)

    def _so_far(self) -> str:
        return f"The {len(self.trained)} of {self.config.members} members that were ready are in {self.output}."

    def _forget(self, keep: str) -> None:
        if not keep:
            for member in self.trained:
                member._forget("")
        super()._forget(keep)


def _mean(rows: list[dict]) -> dict:
    """The members' figures of one epoch as one row of the log."""
    return {
        key: value if key in ("epoch", "stage") else float(np.mean([r.get(key, math.nan) for r in rows])) for key, value in rows[0].items()
    }


def _seldom(progress: Progress, who: str, epochs: int) -> Progress:
    """Of a member's many epochs every tenth part is told, with its name; so are warnings and an interrupted run that goes on."""
    step = max(epochs // 10, 1)

    def tell(fraction: float, message: str = "") -> None:
        epoch = re.match(r"Epoch (\d+)/", message)
        if (epoch and int(epoch[1]) % step and int(epoch[1]) != epochs) or message.startswith(("Reading", "Normalisation")):
            message = ""
        progress(fraction, message if not message or message.startswith("Warning:") else who + message)

    return tell
