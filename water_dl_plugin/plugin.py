"""What QGIS holds of the plugin: it brings the Processing provider in and takes it out again."""

from __future__ import annotations

from qgis.core import QgsApplication

from . import packages


class WaterPlugin:
    """Made by `classFactory`. The desktop calls `initGui()`, qgis_process `initProcessing()` only."""

    def __init__(self, iface):
        self.iface = iface
        self.provider = None

    def initProcessing(self):
        if self.provider is not None:
            return
        from .provider import WaterProvider

        packages.activate()
        self.provider = WaterProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):
        self.initProcessing()

    def unload(self):
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
