"""How networks learn: epochs of gradient descent on chips, with the state of the run kept after each."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch

from . import bundle, checkpoint, nets, normalise, onnx_export, warmstart
from .errors import Cancelled, ConfigError, OutputError, TrainingError
from .normalise import Normalisation
from .progress import silent
from .trainer import Run, Stage, Trainer, clock

_ANY_RUN = ("resume", "keep_best", "threads", "licence", "card", "device")  # settings that do not make it another run


@dataclass
class NetworkTrainer(Trainer):
    """One network. `fitted`: the normalisation, if it is not to be fitted to these chips; `keep_every`: so many seconds pass at least
    between two savings of the run's state (0: each epoch is saved); `look_every`: after so many epochs the validation chips are looked at
    (more than 1 only where no figure picks the epoch)."""

    fitted: Optional[Normalisation] = None
    keep_every: float = 0.0
    look_every: int = 1
    half = False  # of the weights in the model file, see `onnx_export.write`

    def __post_init__(self):
        chips, learn, check, config, progress, device = self.chips, self.learn, self.check, self.config, self.progress, self.device
        self.folder = state_folder(self.output)
        self.monitor = config.monitor or (self.task.monitor if len(check) else "loss")
        self.epochs = sum(s.epochs for s in self.plan)
        torch.manual_seed(config.seed)
        own = {
            name: getattr(config, name)
            for name in ("encoder", "depth", "width", "absolute", "attention")
            if nets.takes(config.architecture, name)
        }
        self.arguments = {**own, **getattr(self.task, "arguments", {})}
        self.net = nets.build(config.architecture, len(chips.manifest.bands), self.task.channels, **self.arguments)
        self.normalisation = None
        if config.initial_weights:
            self.normalisation = warmstart.load(
                self.net,
                config.initial_weights,
                len(chips.manifest.bands),
                config.architecture,
                self.arguments,
                lambda text: progress(0, text),
            )
        progress(0, f"Reading {len(learn)} chips to train with and {len(check)} to validate with; {device.type} computes.")
        if self.normalisation is not None and self.normalisation.scheme != config.normalisation:
            progress(0, f"Normalisation: {self.normalisation.scheme}, that of the model which it starts from.")
        self.normalisation = (
            self.normalisation
            or self.fitted
            or normalise.fit(
                config.normalisation, learn.sketches(lambda fraction, text: progress(0, text)), self.arguments.get("elevations", ())
            )
        )
        self.net.to(device, memory_format=torch.channels_last)
        # batch normalisation fails on a single number per channel, which a chip as small as the network's stride comes down to
        self.batch = max(config.batch_size, 2) if chips.manifest.tile_size <= getattr(self.net, "stride", 1) else config.batch_size
        self.weights = self.class_weights()
        self.history: list[dict] = []
        self.best: dict = {}
        self.exact, self._kept = False, 0.0
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._half == torch.float16)
        self._check_monitor()

    def _check_monitor(self) -> None:
        """Ask one chip's figures for the monitored one, so that a wrong name shows now and not after an epoch."""
        known = {"loss", "last"}
        if self.monitor not in known and len(self.check):
            known |= set(self._evaluate(only=1)[0].figures())
        if self.monitor not in known:
            raise ConfigError(f"There is no figure {self.monitor!r} to monitor.", f"Choose one of: {', '.join(sorted(known))}.")

    def run(self) -> Run:
        try:
            self._train()
        except Cancelled:
            if not (self.config.keep_best and self.best):
                raise
            self.progress = silent
            self._finish()  # the state of the run stays: the same call goes on from it
            raise Cancelled(f"Cancelled. {self._so_far()}") from None
        run = self._finish()
        self._forget(keep="")
        return run

    def _so_far(self) -> str:
        return f"The best model so far (epoch {self.best['epoch']}) is in {self.output}."

    def _train(self) -> None:
        done, optimiser_state = self._resume()
        first = 0
        for number, stage in enumerate(self.plan):
            optimiser = self._optimiser(stage)
            if first <= done < first + stage.epochs and optimiser_state is not None and done > first:
                checkpoint.into_optimiser(optimiser, optimiser_state)
            idle = self._idle(number)
            for epoch in range(max(done, first), first + stage.epochs):
                if self.config.patience and idle >= self.config.patience:
                    self.progress(epoch / self.epochs, f"Stage {number + 1} stopped: {self.monitor} has not improved for {idle} epochs.")
                    break
                row = self._epoch(optimiser, stage, number, epoch, first)
                improved = self._note(row)
                idle = 0 if improved else idle + 1
                if self.watch is None:
                    self._keep(optimiser, epoch + 1, improved)
                else:  # a trial of a search is not gone on with: its state would be written for nothing
                    self.watch(row)
            first += stage.epochs
            done = max(done, first)

    def _epoch(self, optimiser, stage: Stage, number: int, epoch: int, first: int) -> dict:
        started, config = time.time(), self.config
        torch.manual_seed(int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0]))  # dropout and the like
        criterion = self.task.criterion(stage.loss, self.weights)
        self.net.train()
        total, seen = 0.0, 0
        steps = math.ceil(len(self.learn) / self.batch)
        checks = math.ceil(len(self.check) / self.batch)
        for step, (images, targets) in enumerate(self.learn.batches(self.batch, self.normalisation, config, epoch)):
            share = (epoch - first + step / steps) / stage.epochs
            for group in optimiser.param_groups:
                group["lr"] = stage.lr * decay(config.schedule, share)
            optimiser.zero_grad(set_to_none=True)
            with self._autocast():
                output = self.net(self._to(images))
            loss = criterion(output, torch.from_numpy(targets).to(self.device))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingError(
                    f"The loss is no longer a number (epoch {epoch + 1}).",
                    "Lower the learning rate, switch mixed precision off, and look for extreme values in the bands.",
                )
            self.scaler.scale(loss).backward()
            if config.gradient_clip:
                self.scaler.unscale_(optimiser)
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.gradient_clip)
            self.scaler.step(optimiser)
            self.scaler.update()
            total, seen = total + value * len(images), seen + len(images)
            self.progress((epoch + (step + 1) / (steps + checks)) / self.epochs, "")
        row = {"epoch": epoch + 1, "stage": number + 1, "loss_train": total / seen}
        if not (epoch + 1) % self.look_every or epoch + 1 == self.epochs or len(self.history) == 0:
            row.update(self._evaluate(criterion, lambda k: self.progress((epoch + (steps + k) / (steps + checks)) / self.epochs, ""))[1])
        row.update(lr=stage.lr * decay(config.schedule, (epoch - first) / stage.epochs), seconds=time.time() - started)
        return row

    @torch.no_grad()
    def _evaluate(self, criterion=None, tick=lambda k: None, only: Optional[int] = None):
        """The task's evaluator over the validation chips (or `only` so many batches), and its figures with the loss."""
        self.net.eval()
        evaluator, total, seen = self.task.evaluator(), 0.0, 0
        for k, (images, targets) in enumerate(self.check.batches(self.batch, self.normalisation)):
            if k == only:
                break
            with self._autocast():
                output = self.net(self._to(images))
            if criterion is not None:
                total += float(criterion(output, torch.from_numpy(targets).to(self.device))) * len(images)
            seen += len(images)
            evaluator.update(self.task.activate(output.float()).cpu().numpy(), targets)
            tick(k + 1)
        return evaluator, {"loss_valid": total / seen if seen else math.nan, **(evaluator.figures() if seen else {})}

    def _note(self, row: dict) -> bool:
        """Write the epoch into the history and the log; True if it is the best so far."""
        self.history.append(row)
        loss_name = "loss_valid" if len(self.check) else "loss_train"
        figure = row["epoch"] if self.monitor == "last" else row[{"loss": loss_name}.get(self.monitor, self.monitor)]
        sign = -1 if self.monitor in self.task.lower_is_better or self.monitor == "loss" else 1
        loss = self.plan[row["stage"] - 1].loss
        before = self.best.get("figure", math.nan)
        if self.monitor == "loss" and self.best and self.best["loss"] != loss:
            before = math.nan  # another stage's loss is another figure: they can't be compared, and the later stage is meant to refine
        improved = not math.isnan(figure) and (math.isnan(before) or sign * figure > sign * before)
        if improved or not self.best:
            self.best = {"epoch": row["epoch"], "figure": figure, "loss": loss}
            self.best_state = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        left = (self.epochs - row["epoch"]) * float(np.mean([r["seconds"] for r in self.history[-5:]]))
        figures = "  ".join(
            f"{name} {row[name]:.4f}" for name in row if name not in ("epoch", "stage", "lr", "seconds") and row[name] is not None
        )
        self.progress(
            row["epoch"] / self.epochs,
            f"Epoch {row['epoch']}/{self.epochs}  {figures}  {clock(row['seconds'])}, {clock(left)} left{'  *' if improved else ''}",
        )
        return improved or len(self.history) == 1

    def _keep(self, optimiser, done: int, improved: bool) -> None:
        """Save the state of the run. The best weights first, under a name with their epoch: a kill in between only repeats an epoch."""
        if time.time() - self._kept < self.keep_every and done < self.epochs:
            return
        self._kept = time.time()
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The state of the run can't be kept in {self.folder}: {error.strerror}.", "Choose another folder for the model."
            ) from None
        if not os.path.exists(self._best_path(self.best["epoch"])) or improved:
            checkpoint.save(self._best_path(self.best["epoch"]), self.best_state, {})
        tensors = {**{f"net.{k}": v for k, v in self.net.state_dict().items()}, **checkpoint.of_optimiser(optimiser)}
        state = {
            "fingerprint": self._fingerprint(),
            "done": done,
            "history": [self._json(r) for r in self.history],
            "best": self._json(self.best),
        }
        checkpoint.save(os.path.join(self.folder, "last.safetensors"), tensors, state)
        self._forget(keep=self._best_path(self.best["epoch"]))

    def _forget(self, keep: str) -> None:
        """Remove the states of the run: all, or the best ones before `keep`. The folder may be the user's: nothing else goes."""
        pattern = r"best\.\d+\.safetensors" if keep else r"(best\.\d+|last)\.safetensors"
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            if re.fullmatch(pattern, name) and os.path.join(self.folder, name) != keep:
                os.remove(os.path.join(self.folder, name))
        if not keep:
            with suppress(OSError):  # something else lies in it
                os.rmdir(self.folder)

    def _best_path(self, epoch: int) -> str:
        return os.path.join(self.folder, f"best.{epoch}.safetensors")

    @staticmethod
    def _json(row: dict) -> dict:
        return {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in row.items()}

    def _resume(self):
        """Epochs that are done, and the optimiser's tensors; (0, None) for a fresh start."""
        found = checkpoint.load(os.path.join(self.folder, "last.safetensors")) if self.config.resume else None
        ours = bool(found) and found[1].get("fingerprint") == self._fingerprint()
        best = checkpoint.load(self._best_path(found[1]["best"]["epoch"])) if ours else None
        if not best:
            if found:
                self.progress(0, "An interrupted run lies beside the model file, but with other chips or settings: starting anew.")
            return 0, None
        tensors, state = found
        self.net.load_state_dict(checkpoint.part(tensors, "net"))
        self.history = [{k: math.nan if v is None else v for k, v in row.items()} for row in state["history"]]
        self.best = {k: math.nan if v is None else v for k, v in state["best"].items()}
        self.best_state = {k: v.to(self.device) for k, v in best[0].items()}
        self.progress(state["done"] / self.epochs, f"Going on after epoch {state['done']} of an interrupted run.")
        return state["done"], tensors

    def _idle(self, stage: int) -> int:
        rows = [r for r in self.history if r["stage"] == stage + 1]
        return rows[-1]["epoch"] - max(self.best["epoch"], rows[0]["epoch"] - 1) if rows else 0

    def _fingerprint(self) -> str:
        settings = {k: v for k, v in self.config.to_json().items() if k not in _ANY_RUN}
        initial = bundle.file_hash(self.config.initial_weights) if os.path.isfile(self.config.initial_weights) else ""
        text = json.dumps(
            [settings, initial, self.data_hash(), self.normalisation.to_json()], sort_keys=True
        )  # the last tells other pixels
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _finish(self) -> Run:
        """Write the model file, its weights and the report from the best epoch."""
        self.net.load_state_dict(self.best_state)
        self.exact = True  # the model file computes in float32, so its figures do
        if hasattr(self.task, "calibrate"):
            self.task.calibrate(self._evaluate()[0])
        evaluator, figures = self._evaluate()
        row = next(r for r in self.history if r["epoch"] == self.best["epoch"])
        normalisation = onnx_export.outside(self.normalisation, self.config.portable)
        margin, stride = getattr(self.net, "margin", 0), getattr(self.net, "stride", 1)
        info = self.info(normalisation, figures, margin, stride, epochs=self.history[-1]["epoch"], best_epoch=row["epoch"])
        self.net.to("cpu", memory_format=torch.contiguous_format)
        sample = (self.check if len(self.check) else self.learn).raw(0)
        example = normalisation.apply(sample[0], sample[1])[None]
        onnx_export.write(self.output, self.net, self.task.activate, info, example, self.normalisation, self.config.portable, self.half)
        self.keep_weights()
        run = self._summary(evaluator, figures, row)
        if self.report:
            self.task.report(self.report, run)
        return run

    def keep_weights(self) -> None:
        """Write `NAME.safetensors`, to go on from."""
        self._keep_weights(self.net)

    def _keep_weights(self, net: torch.nn.Module) -> None:
        state = {"architecture": self.config.architecture, "arguments": self.arguments, "normalisation": self.normalisation.to_json()}
        checkpoint.save(bundle.weights_beside(self.output), net.state_dict(), state)

    def _summary(self, evaluator, figures, row) -> Run:
        self.device = torch.device("cpu")

        def predict(pixels, valid):
            with torch.no_grad():
                output = self.net(torch.from_numpy(self.normalisation.apply(pixels, valid)[None]))
            return self.task.activate(output)[0].numpy()

        facts = [("Best epoch", f"{row['epoch']} of {self.history[-1]['epoch']}"), ("Time", clock(sum(r["seconds"] for r in self.history)))]
        return self.told(predict, evaluator, facts, history=self.history, best_epoch=row["epoch"], best_figure=self.best["figure"])

    def _optimiser(self, stage: Stage):
        kind = torch.optim.AdamW if self.config.optimiser == "adamw" else torch.optim.Adam
        return kind(self.net.parameters(), lr=stage.lr, weight_decay=self.config.weight_decay)

    @property
    def _half(self):
        if self.exact or not self.config.mixed_precision:
            return None
        if self.device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return torch.bfloat16 if _fast_bfloat16() else None

    def _autocast(self):
        return torch.autocast(self.device.type, dtype=self._half or torch.bfloat16, enabled=self._half is not None)

    def _to(self, images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)


def state_folder(output: str) -> str:
    """Where the state of a run lies: beside its model file."""
    return os.path.splitext(output)[0] + ".training"


def _fast_bfloat16() -> bool:
    """Has this processor instructions for bfloat16? Where it has not, torch would emulate them, slowly. (torch offers no public test.)"""
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def decay(schedule: str, share: float) -> float:
    """Factor on the learning rate after this share (0..1) of a stage; polynomial with power 0.9."""
    if schedule == "polynomial":
        return (1 - share) ** 0.9
    return 0.5 * (1 + math.cos(math.pi * share)) if schedule == "cosine" else 1.0
