"""hsifcn in the Processing toolbox of QGIS."""


def classFactory(iface):  # noqa: N802, the name that QGIS calls
    """Make the plugin."""
    from .plugin import Plugin

    return Plugin()
