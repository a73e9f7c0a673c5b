"""Water DL: deep learning for water mapping, as a QGIS Processing provider."""


def classFactory(iface):
    """The plugin object. `iface` is None in qgis_process."""
    from .plugin import WaterPlugin

    return WaterPlugin(iface)
