"""What a bug report needs: versions, packages, processors, paths."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from . import packages
from .engine.version import version


def diagnostics() -> str:
    """The text, one fact per line. Each fact stands alone: one that can't be had says why, and the others are there."""
    facts = [
        ("Water DL", version), ("QGIS", _qgis), ("GDAL", _gdal), ("System", platform.platform), ("Python", lambda: sys.version.replace("\n", " ")),
        ("Interpreter for pip", lambda: str(packages.interpreter())), ("sys.prefix", lambda: sys.prefix), ("Processors", lambda: str(os.cpu_count())),
        ("Memory", _memory), ("Packages folder", lambda: f"{packages.folder()} ({'in use' if packages.installed() else 'not installed'})"),
        ("Free disk there", _disk), *((name, lambda name=name: _package(name)) for name in ("numpy", *(p.name for p in packages.TABLE))),
        ("ONNX Runtime can use", _providers), ("torch and CUDA", _cuda), ("sys.path", lambda: os.pathsep.join(sys.path)),
    ]  # fmt: skip
    lines = []
    for label, find in facts:
        try:
            found = find()
        except Exception as error:  # a diagnosis must not fail on what it is there to find
            found = f"not known: {type(error).__name__}: {error}"
        lines.append(f"{label}: {found}")
    home = Path.home()
    text = "\n".join(lines).replace(str(home), "~")
    # the name is in other paths, too: /media/NAME/disk, D:\NAME
    return re.sub(rf"(?<=[/\\]){re.escape(home.name)}(?=[/\\\s:;)]|$)", "USER", text) if home.name else text


def _qgis() -> str:
    from qgis.core import Qgis
    from qgis.PyQt.QtCore import QT_VERSION_STR

    return f"{Qgis.QGIS_VERSION}, Qt {QT_VERSION_STR}"


def _gdal() -> str:
    from osgeo import gdal

    return gdal.VersionInfo("RELEASE_NAME")


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"


def _disk() -> str:
    place = packages.folder()
    while not place.exists():
        place = place.parent
    return f"{shutil.disk_usage(place).free / 2**30:.1f} GiB"


def _package(name: str) -> str:
    spec = importlib.util.find_spec(name)
    return f"{metadata.version(name)} in {Path(spec.origin).parent.parent}" if spec and spec.origin else "not installed"


def _providers() -> str:
    import onnxruntime

    return ", ".join(onnxruntime.get_available_providers())


def _cuda() -> str:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}, GPUs: {', '.join(names) or 'none'}"
