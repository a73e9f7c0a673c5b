"""The program of a search that knows two networks of the tests: 'tiny', and 'touchy', which fails in different ways by its width."""

from __future__ import annotations

import os
import signal

from tests.helpers import allow_network, tiny_network
from water_dl_plugin.engine.tune import worker


def touchy_network():
    tiny = tiny_network()

    class Touchy(tiny):
        def __init__(self, bands, channels, width: int = 24):
            if width == 16:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
            if width == 48:
                os.kill(os.getpid(), signal.SIGKILL)
            super().__init__(bands, channels, width)

    return Touchy


def main(home: str) -> None:
    allow_network("tiny", tiny_network())
    allow_network("touchy", touchy_network())
    worker.main(home)
