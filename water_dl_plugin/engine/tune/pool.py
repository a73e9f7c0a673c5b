"""Programs that train (`worker`), started and heard together. None outlives the pool."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from typing import Any, Optional

from . import worker

WORKER = worker.__name__  # the module whose `main` the programs run
_HIDDEN = {"creationflags": 0x08000000} if sys.platform == "win32" else {"start_new_session": True}  # no black box; no Ctrl-C of its own
# The program sees the modules that we see, in our order, whatever its environment says.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from importlib import import_module; import_module(sys.argv[2]).main(sys.argv[3])"


class Worker:
    """One program. `trial` is the place of what it trains, None while it waits."""

    def __init__(self, python: str, home: str, heard: queue.Queue):
        self.home, self.log = home, os.path.join(home, "log.txt")
        self.trial: Optional[int] = None
        self.fraction = 0.0
        environment = {**os.environ, "PYTHONUTF8": "1"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [python, "-c", _START, json.dumps(sys.path), WORKER, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, cwd=home, env=environment, **_HIDDEN,
            )  # fmt: skip

        def listen():
            with self.process.stdout:
                for line in self.process.stdout:
                    heard.put((self, json.loads(line)))
            heard.put((self, None))

        threading.Thread(target=listen, daemon=True).start()

    def tell(self, message: Any) -> None:
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has died: that is heard on the other side

    def last_words(self) -> str:
        """Why it died, as far as it can be known."""
        code = self.process.wait()
        with open(self.log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        if code == -9:
            return "The program that trained was killed: memory may have run out."
        return f"The program that trained ended with {code}: {lines[-1][:300] if lines else 'it said nothing'}"

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        shutil.rmtree(self.home, ignore_errors=True)


class Pool:
    """Up to some workers, and one queue of what they say. A context: at its end all are killed, and their files removed."""

    def __init__(self, python: str):
        self.python, self.workers = python, []
        self._heard: queue.Queue = queue.Queue()
        self.home = tempfile.mkdtemp(prefix="water_dl_tune_")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in list(self.workers):
            self.dismiss(one)
        shutil.rmtree(self.home, ignore_errors=True)

    def hire(self) -> Worker:
        one = Worker(self.python, tempfile.mkdtemp(dir=self.home), self._heard)
        self.workers.append(one)
        return one

    def dismiss(self, one: Worker) -> None:
        self.workers.remove(one)
        one.kill()

    def hear(self, seconds: float) -> Optional[tuple[Worker, Any]]:
        """The next message, None if there is none for so long; a message that is None tells that the worker has died."""
        try:
            one, message = self._heard.get(timeout=seconds)
        except queue.Empty:
            return None
        return (one, message) if one in self.workers else None
