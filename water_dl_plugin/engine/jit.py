"""numba where it is installed: loops compiled once and kept on disk, so that only the first process ever waits for the compiler."""

from __future__ import annotations

import os
from importlib.util import find_spec


def compiled(**options):
    """Decorator: compile for numba without the GIL, with its cache on disk where it finds a folder to write to."""
    from numba import njit

    def wrap(function):
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # numba finds no folder to write its cache to
            return njit(nogil=True, **options)(function)

    return wrap


def works() -> bool:
    """Is numba there, able to be loaded, and not switched off by NUMBA_DISABLE_JIT?"""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") == "1" or find_spec("numba") is None:
        return False
    try:
        import numba  # noqa: F401
    except Exception:  # made for another NumPy, or without its DLL: each raises something else
        return False
    return True
