"""What the machine has to give, as far as it tells."""

from __future__ import annotations

import os
import sys

_UNKNOWN = 4e9  # bytes, where a system does not tell


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> float:
    """Bytes that programs can still have without swapping."""
    if sys.platform == "win32":
        return _free_on_windows()
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


def _free_on_windows() -> float:
    import ctypes

    status = (ctypes.c_uint64 * 8)()  # MEMORYSTATUSEX: length and load (32 bits each), then seven of 64 bits, the second is what is free
    ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(status)
    return float(status[2]) if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else _UNKNOWN


def peak_memory() -> float:
    """Bytes of this process at its largest."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return _UNKNOWN
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def trials_at_once(wanted: int, asked: int) -> int:
    """How many trials may run at once as far as processors go: `wanted`, or (0) one per processor, at most 4 (trials that run at once can't
    learn from each other), and never more than `asked`, the trials that are left."""
    return max(1, min(wanted or min(processors(), 4), asked))


def room_for(need: float, free: float) -> int:
    """How many more programs fit, if one, with the default settings, has taken `need` bytes and `free` are left. Others may take twice as
    much (larger batches, deeper networks), and a quarter stays free."""
    return max(0, int(0.75 * free // (2 * max(need, 1.0))))
