"""The program that trains: one trial after another, as it is told on stdin, a line of JSON each; what it has to say goes to stdout.

Told: a trial {"folder", "output", "config", "monitor", "sign"}, and after each epoch "go" or "stop". Says: {"epoch", "best", "memory"}
after each epoch, {"fraction"} now and then, and at the end of a trial {"end": "complete" | "pruned" | "failed", ...}, with "spent" if the
program had better be replaced (what is left of its memory can't be known). When stdin ends, nobody is left who wants to know: it tidies up
and ends at once.
"""

from __future__ import annotations

import json
import math
import os
import queue
import shutil
import sys
import threading
import time
from contextlib import suppress


class _Enough(Exception):
    """Ends a training from within; nothing is written then."""

    def __init__(self, state: str):
        super().__init__(state)
        self.state = state


def main(home: str) -> None:
    """Serve until stdin ends; then the folder `home`, under which all files are made, is removed."""
    say = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # if memory runs out, Linux takes this program and not QGIS
    told: queue.Queue = queue.Queue()

    def listen():
        for line in sys.stdin.buffer:
            told.put(json.loads(line))
        shutil.rmtree(home, ignore_errors=True)
        with suppress(OSError):
            os.rmdir(os.path.dirname(home))  # the last one of the pool
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    from .. import train  # noqa: F401 some seconds, which are not the first trial's; and meanwhile it is listened to

    while True:
        trial = told.get()
        started = time.time()
        answer = _train(trial, lambda message: print(json.dumps(message), file=say), told)
        shutil.rmtree(os.path.dirname(trial["output"]), ignore_errors=True)
        print(json.dumps({**answer, "seconds": time.time() - started, **_memory()}), file=say)


def _train(trial: dict, say, told) -> dict:
    from .. import train
    from ..errors import WaterError
    from ..settings import TrainConfig

    best, best_epoch, spoke = math.nan, None, time.monotonic()

    def progress(fraction: float, message: str = "") -> None:
        nonlocal spoke
        if time.monotonic() - spoke > 1:
            spoke = time.monotonic()
            say({"fraction": fraction})

    def watch(row: dict) -> None:
        nonlocal best, best_epoch
        figure = row.get(trial["monitor"])
        if figure is not None and math.isfinite(figure) and not trial["sign"] * figure >= trial["sign"] * best:
            best, best_epoch = figure, row["epoch"]
        say({"epoch": row["epoch"], "best": best if math.isfinite(best) else None, **_memory()})
        if told.get() == "stop":
            raise _Enough("pruned")
        if row["epoch"] == epochs:
            raise _Enough("complete")  # before the model file is written: a trial's is not wanted

    try:
        os.makedirs(os.path.dirname(trial["output"]))
        config = TrainConfig.from_json(trial["config"])
        epochs = sum(stage.epochs for stage in train.stages(config))
        run = train.train(trial["folder"], trial["output"], config, progress, watch=watch)
        best, best_epoch, state = run.best_figure, run.best_epoch, "complete"
    except _Enough as enough:
        state = enough.state
    except WaterError as error:
        return {"end": "failed", "why": str(error)}
    except Exception as error:  # a search goes on whatever a trial meets, and says what that was
        words = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        full = isinstance(error, MemoryError) or any(s in str(error) for s in ("out of memory", "can't allocate memory"))
        return {"end": "failed", "why": f"Memory ran out ({words})" if full else words, "spent": True}
    if not math.isfinite(best):
        return {"end": "failed", "why": f"{trial['monitor']} is not defined on the validation chips."}
    return {"end": state, "figure": best, "epoch": best_epoch}


def _memory() -> dict:
    """Bytes taken at most, of the processor's memory and of the GPU's, and what is free there."""
    from .machine import peak_memory

    memory = {"memory": peak_memory()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        memory["gpu"] = torch.cuda.max_memory_reserved() + 5e8  # and what CUDA itself takes
        memory["gpu_free"] = torch.cuda.mem_get_info()[0]
    return memory
