"""Registers the provider of algorithms; there is no other user interface."""

from qgis.core import QgsApplication

from .provider import Provider


class Plugin:
    """The plugin as QGIS loads it."""

    def __init__(self):
        self.provider = None

    def initProcessing(self):  # noqa: N802, called by qgis_process
        """Add the algorithms."""
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):  # noqa: N802, called by QGIS
        """Add the algorithms."""
        self.initProcessing()

    def unload(self):
        """Take them away."""
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
