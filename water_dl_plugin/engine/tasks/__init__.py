"""What a chips folder is for. A task knows its target, its loss, its figures and what its model gives; training knows only tasks.

A new task is one file beside this one and one line in `TASKS`. It is a class with

- `__init__(manifest)`: from the chips folder's manifest;
- `channels`: outputs of the network; `spatial`: True if the target is an image that flips and turns with the chip's;
- `target(chips, chip) -> array`: the target of one chip, `(..., rows, cols)` or `()`; what is ignored as the task's loss wants it;
- `criterion(loss, weights) -> callable(output, target) -> scalar tensor`;
- `activate(output)`: a torch tensor, from the network's raw output to what the model file gives;
- `evaluator() -> object` with `update(given, target)` (numpy) and `figures() -> dict`, which may hold any of the columns of the log;
- `monitor`: the figure that picks the best epoch ('last': none does), and `lower_is_better`, the set of names for which less is more; `searched`: the figure
  that a search for settings makes better, if it is another one;
- `info() -> dict`: the fields of `bundle.ModelInfo` that are the task's own (classes, threshold, ...);
- `balance(targets) -> list`, if it has classes: the weights that the setting 'balanced' stands for;
- `losses`: the names of its losses, its usual one first; `architecture`: the name of its usual network (unet if it has none);
- `arguments`, if the network must be told something of the bands: further arguments of its constructor;
- `configure(config)` and `calibrate(evaluator)`, if it wants to see the settings before, and the figures of the best epoch after training;
- `turned = False`, if its chips must not be mirrored and turned, whatever the settings say;
- `vary(image, target, rng) -> (image, target)`, if it has changes of its own to make to a training chip, normalised, before those of all tasks;
- `ensemble = True`, if its model file holds several networks (`ensemble`), and `remember(chips, given, unseen)`, which hears their answers;
- `report(path, run)`: writes the HTML report of a training run (`train.Run`).
"""

from __future__ import annotations

from importlib import import_module

from ..errors import ChipsError

TASKS = {"segmentation": ".segmentation:Segmentation", "regression": ".regression:Regression", "level": ".level:Level"}


def make(manifest):
    """The task of a chips folder. Raises `ChipsError` for one that this version can't train."""
    entry = TASKS.get(manifest.task)
    if entry is None:
        raise ChipsError(f"The chips are for the task {str(manifest.task)[:40]!r}.", f"trainmodel can do: {', '.join(TASKS)}.")
    if isinstance(entry, str):
        module, name = entry.split(":")
        entry = getattr(import_module(module, __name__), name)
    return entry(manifest)
