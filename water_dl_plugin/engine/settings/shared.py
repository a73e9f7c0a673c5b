"""Settings that several jobs have in common, stated once."""

from __future__ import annotations

from ..config import param


def batch_size():
    return param(
        0,
        "Batch size",
        "Windows at once. 0: 8 on a GPU, 1 on a processor, where more take memory and no less time.",
        unit="windows",
        minimum=0,
        maximum=256,
        advanced=True,
    )


def compression():
    return param(
        "DEFLATE",
        "Compression",
        "Of the written rasters. ZSTD is quicker, but older programs can't read it.",
        choices=("DEFLATE", "ZSTD", "LZW", "NONE"),
        advanced=True,
    )


def threads():
    return param(0, "Threads", "Processor threads. 0: all.", minimum=0, maximum=1024, advanced=True)
