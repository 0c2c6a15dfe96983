"""The algorithms: each turns its parameters into arguments of the command, and adds the outputs."""

import json
import os

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingParameterVectorLayer,
)

from .command import NOT_FOUND, SETTING, CancelledError, CommandError, find_command, run_command

SHAPES = ["gpkg", "geojson", "shp"]
MODEL_FILES = "hsifcn model (*.safetensors)"
SCENE_FILES = "Scenes (*.mat *.npy *.npz *.h5 *.he5 *.hdf5 *.nc *.hdr *.img *.tif *.xml);;All (*)"


def command_path():
    """Path of the command, or None."""
    return find_command(ProcessingConfig.getSetting(SETTING) or "")


class CommandAlgorithm(QgsProcessingAlgorithm):
    """Runs one command of hsifcn.

    Attributes
    ----------
    command : str
    title, help : str
        Shown in the toolbox.
    """

    command = title = help = ""

    def name(self):
        """Name after the colon."""
        return self.command

    def displayName(self):  # noqa: N802
        """Title in the toolbox."""
        return self.title

    def shortHelpString(self):  # noqa: N802
        """Text beside the parameters."""
        return self.help

    def createInstance(self):  # noqa: N802
        """Make another of its kind."""
        return type(self)()

    def canExecute(self):  # noqa: N802
        """Whether the command is there; QGIS shows the message."""
        return (True, "") if command_path() else (False, NOT_FOUND)

    def add(self, parameter, advanced=False):
        """Add a parameter, under "Advanced" if so."""
        if advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(parameter)

    def run_hsifcn(self, arguments, feedback):
        """Run the command; a failure is shown as the one line that it printed."""
        path = command_path()
        if path is None:
            raise QgsProcessingException(NOT_FOUND)
        arguments = [self.command, *(str(argument) for argument in arguments)]
        feedback.pushCommandInfo(" ".join(["hsifcn", *arguments]))
        try:
            return run_command(path, arguments, feedback)
        except (CommandError, CancelledError) as error:
            raise QgsProcessingException(str(error)) from error

    # What several algorithms ask for

    def add_scene(self):
        """A raster layer, or a file that QGIS cannot show."""
        self.add(QgsProcessingParameterRasterLayer("SCENE", "Scene, all bands", optional=True))
        self.add(
            QgsProcessingParameterFile(
                "SCENE_FILE",
                "Scene that QGIS cannot open (.mat, .npy, .h5)",
                optional=True,
                fileFilter=SCENE_FILES,
            ),
            advanced=True,
        )

    def scene(self, parameters, context):
        """Path of the scene."""
        layer = self.parameterAsRasterLayer(parameters, "SCENE", context)
        path = self.parameterAsFile(parameters, "SCENE_FILE", context)
        if layer is None and not path:
            raise QgsProcessingException("Choose a scene.")
        return path or source_of(layer)

    def add_labels(self):
        """Shapes with the field of the class, or a raster."""
        self.add(
            QgsProcessingParameterVectorLayer(
                "LABELS",
                "Labels: polygons or points",
                [
                    QgsProcessing.SourceType.TypeVectorPoint,
                    QgsProcessing.SourceType.TypeVectorPolygon,
                ],
                optional=True,
            )
        )
        self.add(
            QgsProcessingParameterField(
                "FIELD", "Field with the class", parentLayerParameterName="LABELS", optional=True
            )
        )
        self.add(
            QgsProcessingParameterRasterLayer(
                "LABEL_RASTER", "Labels: raster of classes, 0 unlabelled", optional=True
            )
        )

    def labels(self, parameters, context, feedback):
        """Path of the labels and the options that go with it; no path where none were chosen."""
        raster = self.parameterAsRasterLayer(parameters, "LABEL_RASTER", context)
        shapes = self.parameterAsVectorLayer(parameters, "LABELS", context)
        if raster is not None and shapes is not None:
            raise QgsProcessingException("Choose shapes or a raster as labels, not both.")
        if raster is not None:
            return source_of(raster), []
        if shapes is None:
            return None, []
        path, layer = self.parameterAsCompatibleSourceLayerPathAndLayerName(
            parameters, "LABELS", context, SHAPES, "gpkg", feedback
        )
        field = self.parameterAsString(parameters, "FIELD", context)
        path = f"{path}:{layer}" if layer and path.lower().endswith(".gpkg") else path
        return path, ["--label-field", field] if field else []

    def add_model(self):
        """The file of a model."""
        self.add(
            QgsProcessingParameterFile(
                "MODEL", "Model (model.safetensors of a run)", fileFilter=MODEL_FILES
            )
        )


class Train(CommandAlgorithm):
    """``hsifcn train``."""

    command = "train"
    title = "Train a model"
    help = (
        "Learns from a scene and labels, and measures accuracy on labels that it did not learn "
        "from. The folder gets model.safetensors, for 'Map a scene', and report.html with the "
        "map, the accuracy and how far it can be trusted."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802
        """Declare parameters and outputs."""
        self.add_scene()
        self.add_labels()
        self.add(
            QgsProcessingParameterString(
                "SPLIT",
                "Split: features:0.3, random:0.1, checkerboard:14:gap=3 or all; empty: by labels",
                optional=True,
            ),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber("SEED", "Seed", defaultValue=0, minValue=0), advanced=True
        )
        self.add(
            QgsProcessingParameterNumber("STEPS", "Steps", optional=True, minValue=1), advanced=True
        )
        self.add(QgsProcessingParameterFolderDestination("RUN", "Folder of the run"))
        self.addOutput(QgsProcessingOutputNumber("OA", "Overall accuracy, per cent"))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Train."""
        folder = self.parameterAsString(parameters, "RUN", context)
        arguments = [self.scene(parameters, context), "-o", folder, "--overwrite"]
        path, options = self.labels(parameters, context, feedback)
        arguments += [*(["-l", path] if path else []), *options]
        split = self.parameterAsString(parameters, "SPLIT", context)
        arguments += ["-s", split] if split else []
        arguments += ["--seed", self.parameterAsInt(parameters, "SEED", context)]
        if parameters.get("STEPS"):
            arguments += ["--steps", self.parameterAsInt(parameters, "STEPS", context)]
        metrics = self.run_hsifcn(arguments, feedback)
        feedback.pushInfo(f"page of the run: {os.path.join(folder, 'report.html')}")
        return {"RUN": folder, "OA": per_cent(metrics.get("oa"))}


class Predict(CommandAlgorithm):
    """``hsifcn predict``."""

    command = "predict"
    title = "Map a scene"
    help = (
        "Maps every pixel of a scene with a trained model. The map comes with the names and "
        "colours of its classes; 0 is unclassified."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802
        """Declare parameters and outputs."""
        self.add_model()
        self.add_scene()
        self.add(
            QgsProcessingParameterEnum(
                "REFINE",
                "Smooth the map",
                ["none", "crf", "mrf"],
                defaultValue="none",
                usesStaticStrings=True,
            )
        )
        self.add(
            QgsProcessingParameterNumber(
                "MIN_CONFIDENCE",
                "Leave pixels under this probability unclassified",
                QgsProcessingParameterNumber.Type.Double,
                0.0,
                minValue=0,
                maxValue=1,
            )
        )
        self.add(
            QgsProcessingParameterBoolean(
                "ADAPT", "Undo the light of a new scene", defaultValue=False
            )
        )
        self.add(QgsProcessingParameterRasterDestination("MAP", "Map", defaultValue=None))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Map."""
        out = self.parameterAsOutputLayer(parameters, "MAP", context)
        arguments = [
            *(self.parameterAsFile(parameters, "MODEL", context), self.scene(parameters, context)),
            *("-o", out, "--overwrite"),
            *("--refine", self.parameterAsEnumString(parameters, "REFINE", context)),
            *("--min-confidence", self.parameterAsDouble(parameters, "MIN_CONFIDENCE", context)),
        ]
        if self.parameterAsBool(parameters, "ADAPT", context):
            arguments.append("--adapt")
        self.run_hsifcn(arguments, feedback)
        return {"MAP": out}


class Evaluate(CommandAlgorithm):
    """``hsifcn evaluate``."""

    command = "evaluate"
    title = "Measure the accuracy of a map"
    help = (
        "Compares a map with labels: overall accuracy, accuracy of each class, confusion, areas "
        "with 95 % intervals. Give the split.npz of the run to count only pixels that were not "
        "learnt from."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802
        """Declare parameters and outputs."""
        self.add(QgsProcessingParameterRasterLayer("MAP", "Map"))
        self.add_labels()
        self.add(
            QgsProcessingParameterFile(
                "SPLIT", "Split of the run", optional=True, fileFilter="Split (*.npz)"
            )
        )
        self.add(QgsProcessingParameterFileDestination("RESULT", "Result", "JSON (*.json)"))
        for name, title in (("OA", "Overall accuracy"), ("AA", "Average accuracy")):
            self.addOutput(QgsProcessingOutputNumber(name, f"{title}, per cent"))

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Measure."""
        path, options = self.labels(parameters, context, feedback)
        if path is None:
            raise QgsProcessingException("Choose labels: shapes or a raster.")
        arguments = [source_of(self.parameterAsRasterLayer(parameters, "MAP", context)), path]
        split = self.parameterAsFile(parameters, "SPLIT", context)
        arguments += [*options, *(["--split", split] if split else [])]
        found = self.run_hsifcn(arguments, feedback)
        out = self.parameterAsFileOutput(parameters, "RESULT", context)
        with open(out, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
        for name, values in found["per_class"].items():
            feedback.pushInfo(f"{name}: recall {per_cent(values['recall'])} %")
        return {"RESULT": out, "OA": per_cent(found["oa"]), "AA": per_cent(found["aa"])}


class Sample(CommandAlgorithm):
    """``hsifcn sample``."""

    command = "sample"
    title = "Draw a sample of a map to interpret"
    help = (
        "Draws points at which to look what is really there, with an empty field to fill in. "
        "'Measure the accuracy of a map' then tells accuracy and areas with honest intervals."
    )

    def initAlgorithm(self, configuration=None):  # noqa: N802
        """Declare parameters and outputs."""
        self.add(QgsProcessingParameterRasterLayer("MAP", "Map"))
        self.add(QgsProcessingParameterNumber("N", "Points", defaultValue=300, minValue=2))
        self.add(
            QgsProcessingParameterEnum(
                "DESIGN",
                "Design",
                ["stratified", "random"],
                defaultValue="stratified",
                usesStaticStrings=True,
            )
        )
        self.add(
            QgsProcessingParameterNumber("SEED", "Seed", defaultValue=0, minValue=0), advanced=True
        )
        self.add(
            QgsProcessingParameterVectorDestination(
                "POINTS", "Points", QgsProcessing.SourceType.TypeVectorPoint
            )
        )

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Draw."""
        out = geopackage(self.parameterAsOutputLayer(parameters, "POINTS", context))
        arguments = [
            source_of(self.parameterAsRasterLayer(parameters, "MAP", context)),
            *("-n", self.parameterAsInt(parameters, "N", context)),
            *("--design", self.parameterAsEnumString(parameters, "DESIGN", context)),
            *("--seed", self.parameterAsInt(parameters, "SEED", context)),
            *("-o", out, "--overwrite"),
        ]
        self.run_hsifcn(arguments, feedback)
        return {"POINTS": out}


class Suggest(CommandAlgorithm):
    """``hsifcn suggest``."""

    command = "suggest"
    title = "Suggest where to label next"
    help = "Points at which a further label would teach the model most."

    def initAlgorithm(self, configuration=None):  # noqa: N802
        """Declare parameters and outputs."""
        self.add_model()
        self.add_scene()
        self.add(QgsProcessingParameterNumber("N", "Points", defaultValue=20, minValue=1))
        self.add(
            QgsProcessingParameterVectorDestination(
                "POINTS", "Points", QgsProcessing.SourceType.TypeVectorAnyGeometry
            )
        )

    def processAlgorithm(self, parameters, context, feedback):  # noqa: N802
        """Suggest."""
        out = geopackage(self.parameterAsOutputLayer(parameters, "POINTS", context))
        arguments = [
            *(self.parameterAsFile(parameters, "MODEL", context), self.scene(parameters, context)),
            *("-n", self.parameterAsInt(parameters, "N", context), "-o", out, "--overwrite"),
        ]
        self.run_hsifcn(arguments, feedback)
        return {"POINTS": out}


ALGORITHMS = (Train, Predict, Evaluate, Sample, Suggest)


def source_of(layer):
    """Path of the file behind a layer."""
    if layer is None:
        raise QgsProcessingException("A layer is missing or cannot be read.")
    return layer.source().partition("|")[0]


def geopackage(path):
    """The path, which must be of a GeoPackage."""
    if not path.lower().endswith(".gpkg"):
        raise QgsProcessingException(f"{path} is no .gpkg file; choose one.")
    return path


def per_cent(fraction):
    """A fraction of 1 as per cent, two digits; None where there is none."""
    return None if fraction is None else round(100 * fraction, 2)
