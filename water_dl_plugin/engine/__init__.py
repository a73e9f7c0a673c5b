"""The engine of Water DL: arrays, files and numbers. It knows no QGIS and no Qt.

Imports point one way: words (`errors`, `progress`, `config`, `settings`) at the bottom, the road for pixels above them
(`raster`, `windows`, `blend`, `normalise`, `bundle`, `backends`), the applications (`chips`, `train`, `infer`, `assess`) on top.
"""
