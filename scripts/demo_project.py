"""A QGIS project and a picture of the demo's results: demo_project.py OUT SCENE LABELS, with QGIS's own Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # before Qt is loaded

from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsMapLayer,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsMultiBandColorRenderer,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsRectangle,
    QgsReferencedRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize, Qt
from qgis.PyQt.QtGui import QColor, QFont, QImage, QPainter

STYLES = Path(__file__).resolve().parent.parent / "water_dl_plugin" / "resources" / "styles"


def main(out: Path, scene: Path, labels: str) -> None:
    picture = QgsRasterLayer(str(scene), "Scene")
    natural_colour(picture)
    classes, probability = (
        QgsRasterLayer(str(out / "water.tif"), "Water map"),
        QgsRasterLayer(str(out / "probability.tif"), "Probability of water"),
    )
    drawn, chips = QgsVectorLayer(labels, "Labels"), QgsVectorLayer(f"{out / 'chips' / 'chips.gpkg'}|layername=chips", "Chips")
    if not drawn.isValid():  # a class raster as labels
        drawn = QgsRasterLayer(labels, "Labels")
    for layer in (picture, classes, probability, drawn, chips):
        if not layer.isValid():
            raise SystemExit(f"{layer.name()} can't be opened.")
    chips.loadNamedStyle(str(STYLES / "chips.qml"))
    if isinstance(drawn, QgsVectorLayer) and "class" in drawn.fields().names():
        drawn.loadNamedStyle(str(STYLES / "labels.qml"))
    render(
        out / "quicklook.png",
        [("Scene", [picture]), ("Labels", [drawn, picture]), ("Probability of water", [probability]), ("Water map", [classes])],
    )
    project = QgsProject.instance()
    project.setTitle("Water DL demo")
    project.setCrs(picture.crs())
    root = project.layerTreeRoot()
    for layer, shown in ((chips, False), (drawn, False), (classes, True), (probability, False), (picture, True)):
        project.addMapLayer(layer, False)
        node = root.addLayer(layer)
        node.setItemVisibilityChecked(shown)
        node.setExpanded(layer is classes)
    project.viewSettings().setDefaultViewExtent(QgsReferencedRectangle(picture.extent(), picture.crs()))
    if not project.write(str(out / "water.qgz")):
        raise SystemExit(f"The project can't be written: {project.error()}")


def natural_colour(layer: QgsRasterLayer) -> None:
    """Red, green, blue with a 2 to 98 % stretch: bands 3, 2, 1 where there are more than three bands."""
    count = layer.bandCount()
    if count >= 3:
        bands = (3, 2, 1) if count > 3 else (1, 2, 3)
        layer.setRenderer(QgsMultiBandColorRenderer(layer.dataProvider(), *bands))
    layer.setContrastEnhancement(
        QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum,
        QgsRasterMinMaxOrigin.Limits.CumulativeCut,
        QgsRectangle(),
        250000,
    )


def render(path: Path, panels: list[tuple[str, list[QgsMapLayer]]], side: int = 620, gap: int = 12, title: int = 34) -> None:
    """The panels side by side, two in a row, each with its title."""
    rows = (len(panels) + 1) // 2
    sheet = QImage(2 * side + 3 * gap, rows * (side + title) + gap, QImage.Format.Format_RGB32)
    sheet.fill(QColor("white"))
    painter = QPainter(sheet)
    painter.setFont(QFont("Sans", 13))
    for i, (text, layers) in enumerate(panels):
        settings = QgsMapSettings()
        settings.setLayers(layers)
        settings.setDestinationCrs(layers[-1].crs())
        settings.setExtent(layers[-1].extent())
        settings.setOutputSize(QSize(side, side))
        settings.setBackgroundColor(QColor("white"))
        job = QgsMapRendererParallelJob(settings)
        job.start()
        job.waitForFinished()
        left, top = gap + (i % 2) * (side + gap), (i // 2) * (side + title)
        painter.drawText(left, top, side, title, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), text)
        painter.drawImage(left, top + title, job.renderedImage())
    painter.end()
    if not sheet.save(str(path)):
        raise SystemExit(f"{path} can't be written.")


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    QgsProject.instance().clear()
    application.exitQgis()
