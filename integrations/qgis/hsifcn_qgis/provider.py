"""The provider: its algorithms, and the setting that names the command."""

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider

from .algorithms import ALGORITHMS
from .command import SETTING


class Provider(QgsProcessingProvider):
    """hsifcn in the toolbox."""

    def id(self):
        """Prefix of the algorithms' names."""
        return "hsifcn"

    def name(self):
        """Title in the toolbox."""
        return "hsifcn"

    def load(self):
        """Add the setting and the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        ProcessingConfig.addSetting(
            Setting(self.name(), SETTING, "The hsifcn command (empty: found on the PATH)", "")
        )
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self):
        """Take the setting away."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self):  # noqa: N802, called by QGIS
        """Add the algorithms."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
