"""installpackages: the Python packages, into a folder of the plugin's own."""

from __future__ import annotations

from dataclasses import dataclass

from qgis.core import QgsProcessingOutputNumber, QgsProcessingOutputString

from .. import packages
from ..engine.config import Config, param
from ..engine.progress import part
from .base import DEPLOY, WaterAlgorithm


@dataclass(frozen=True)
class InstallConfig(Config):
    """Settings of `installpackages`."""

    purpose: str = param(
        "map and train",
        "What for",
        "'map': apply models and write reports (small). 'map and train': also torch, several hundred MB.",
        choices=("map", "map and train"),
    )
    only_show: bool = param(False, "Only show what would be installed", "Lists packages, versions and sizes, and changes nothing.")
    device: str = param("cpu", "Device", "'cuda' for an NVIDIA GPU: several GB.", choices=("cpu", "cuda"))
    index_url: str = param(
        "",
        "Index URL",
        "A package index to look in besides pip's own: a mirror, or PyTorch's index for a CPU or CUDA build (PyTorch's installation page names it).",
        advanced=True,
    )


class InstallPackages(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG = "installpackages", "Install packages", DEPLOY, InstallConfig
    TAGS = ("pip", "torch", "onnxruntime", "setup")
    HELP = (
        "Installs the Python packages that Water DL needs, with pip, into a folder of its own in your QGIS profile. QGIS's own packages are not "
        "touched. Nothing else has to be installed, and no administrator is needed."
    )

    def data_parameters(self):
        return [], [
            QgsProcessingOutputNumber("NUMBER", "Packages to install"),
            QgsProcessingOutputString("FOLDER", "Folder of the packages"),
        ]

    def work(self, data, config, progress):
        purposes = ("run", "report", "refine", "fast") + (("train", "baselines", "tune") if "train" in config.purpose else ())
        share = 1.0 if config.only_show else 0.3
        plan = packages.plan(purposes, config.index_url, config.device, part(progress, 0, share))
        for line in plan.lines():
            progress(share, line)
        if not config.only_show:
            packages.install(plan, part(progress, share, 1))
        return {"NUMBER": len(plan.packages), "FOLDER": str(packages.folder())}
