"""Map a scene to a file: match its bands, plan memory, then read, score and write its tiles."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hsifcn.core.errors import SettingError
from hsifcn.core.process import Stopwatch
from hsifcn.core.scene import Scene
from hsifcn.inference.applicability import UnlikeShare
from hsifcn.inference.band_matching import match_scene
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.map_writer import MapFiles
from hsifcn.inference.precision import try_bfloat16, worth_trying
from hsifcn.inference.predictor import Predictor, check_scene
from hsifcn.inference.refine.potentials import choose_weights
from hsifcn.inference.rotation import RotationCheck, check_rotation, let_spectra_count
from hsifcn.inference.scene_shift import DISTANCES, SceneShift, adapt, measure_shift
from hsifcn.inference.spectral_summary import sample_spectra
from hsifcn.inference.streaming import WriteBehind
from hsifcn.inference.tiling import TilePlan
from hsifcn.io import as_scene

PRECISIONS = ("auto", "float32")

Tell = Callable[[str], None]


def _silent(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class PredictOptions:
    """How a scene is mapped.

    Attributes
    ----------
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    refine : str
        ``none``, ``crf`` or ``mrf``.
    approximate : bool
        Cut the scene into tiles even where the refinement is not exact in them.
    resample : bool
        Mix the bands of another sensor to those of the model.
    adapt : bool
        Undo the light of the scene first, as ``scene_shift`` estimates it.
    precision : str
        ``auto`` scores large scenes in bfloat16 where the processor multiplies it and the labels
        stay the same; ``float32`` never does.
    confidence : bool
        Write the probability of the class that each pixel has too, in per cent: (rows, cols)
        uint8, 255 where there is no measurement. In a second raster of this kind, how unlike the
        pixel is to all that was labelled: over 100 where it is outside of that.
    probabilities : bool
        Write the probability of every class too, and the margin: the greatest less the second,
        (rows, cols, classes + 1) float32; NaN where there is no measurement. A CRF's are its
        marginals; an MRF has none, so they are the network's.
    min_confidence : float
        Pixels whose best probability is under this stay unclassified.
    max_memory : int or None
        Ceiling on the process's resident memory, bytes.
    overwrite : bool
        Replace files that exist.
    """

    device: str = "cpu"
    refine: str = "none"
    approximate: bool = False
    resample: bool = False
    adapt: bool = False
    precision: str = "auto"
    confidence: bool = False
    probabilities: bool = False
    min_confidence: float = 0.0
    max_memory: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise SettingError(
                f"--min-confidence {self.min_confidence:g} is no probability", "give 0 to 1"
            )
        if self.precision not in PRECISIONS:
            raise SettingError(f"there is no precision '{self.precision}'", "auto or float32")


@dataclass(frozen=True)
class Prediction:
    """What mapping a scene gave.

    Attributes
    ----------
    map_path, confidence_path, dissimilarity_path, probabilities_path : Path, Path or None
        Files written.
    shape : tuple of int
        Rows and columns.
    counts : tuple of int, (classes + 1,)
        Pixels left unclassified, then pixels of each class.
    plan : TilePlan
        How the scene was cut, and what was expected.
    seconds : float
        Reading, scoring and writing.
    precision : str
        ``float32`` or ``bfloat16``.
    shift : SceneShift or None
        How far the scene lies from the training scenes, where the model can tell.
    adapted : bool
        Whether the model was adapted to the scene's light.
    rotation : RotationCheck or None
        Whether the network knows the scene, where the model can tell.
    applicability : UnlikeShare or None
        How much of the scene is unlike anything labelled, where the model can tell: of all pixels
        where their dissimilarity was written, else of a sample.
    """

    map_path: Path
    probabilities_path: Path | None
    shape: tuple[int, int]
    counts: tuple[int, ...]
    plan: TilePlan
    seconds: float
    precision: str = "float32"
    shift: SceneShift | None = None
    adapted: bool = False
    rotation: RotationCheck | None = None
    confidence_path: Path | None = None
    dissimilarity_path: Path | None = None
    applicability: UnlikeShare | None = None


def predict(
    bundle: Bundle,
    scene: Scene | Any,
    map_path: str | os.PathLike[str],
    *,
    device: str = "cpu",
    refine: str = "none",
    approximate: bool = False,
    resample: bool = False,
    adapt: bool = False,
    precision: str = "auto",
    confidence: bool = False,
    probabilities: bool = False,
    min_confidence: float = 0.0,
    max_memory: int | None = None,
    overwrite: bool = False,
    tell: Tell = _silent,
) -> Prediction:
    """Map a scene to a file with a model.

    Parameters
    ----------
    bundle : Bundle
    scene : Scene
        Or a path or an array, as ``open_scene`` takes. Its bands are
        brought to the model's as ``match_scene`` does.
    map_path : path
        Its suffix decides the format; label 0 is unclassified, and the map's no-data.
    device, refine, approximate, resample, adapt, precision, confidence, probabilities,
    min_confidence, max_memory, overwrite
        Of ``PredictOptions``.
    tell : callable
        Given a line of text for each thing worth knowing before the work starts.

    Raises
    ------
    MismatchError, MemoryCeilingError, ExistingOutputError, SettingError, FailedError
    """
    match = match_scene(bundle, as_scene(scene), resample=resample)
    if match.note:
        tell(match.note)
    options = PredictOptions(
        device=device,
        refine=refine,
        approximate=approximate,
        resample=resample,
        adapt=adapt,
        precision=precision,
        confidence=confidence,
        probabilities=probabilities,
        min_confidence=min_confidence,
        max_memory=max_memory,
        overwrite=overwrite,
    )
    return map_matched(bundle, match.scene, Path(map_path), options, tell)


def map_matched(
    bundle: Bundle, scene: Scene, map_path: Path, options: PredictOptions, tell: Tell = _silent
) -> Prediction:
    """Map a scene whose bands are the model's; see ``predict``."""
    check_scene(bundle, scene)
    predictor, fit = fit_scene(bundle, scene, options, tell)
    done = write_map(predictor, scene, map_path, options, tell)
    return fit.added_to(done)


def write_map(
    predictor: Predictor,
    scene: Scene,
    map_path: Path,
    options: PredictOptions | None = None,
    tell: Tell = _silent,
) -> Prediction:
    """Plan how to cut a scene, then read, score and write its tiles."""
    options = options or PredictOptions()
    check_scene(predictor.bundle, scene)
    files = MapFiles(
        predictor.bundle,
        scene,
        map_path,
        confidence=options.confidence,
        probabilities=options.probabilities,
        min_confidence=options.min_confidence,
        overwrite=options.overwrite,
    )
    with Stopwatch() as watch, files:
        unlike = files.dissimilarity_path is not None
        # Of what the open files leave.
        plan = predictor.plan(scene, options.max_memory, dissimilarity=unlike)
        tell(plan.sentence())
        if worth_trying(options.precision, options.device, plan):
            predictor, trial = try_bfloat16(predictor, scene, plan)
            tell(trial.sentence())
        write_tiles(predictor, scene, plan, files)
    return Prediction(
        map_path=map_path,
        probabilities_path=files.probabilities_path,
        shape=scene.shape[:2],
        counts=tuple(int(count) for count in files.counts),
        plan=plan,
        seconds=watch.seconds,
        precision=predictor.precision,
        confidence_path=files.confidence_path,
        dissimilarity_path=files.dissimilarity_path,
        applicability=files.unlike_share(),
    )


@dataclass(frozen=True)
class SceneFit:
    """How a model fits a scene: what ``Prediction`` calls the same."""

    shift: SceneShift | None
    adapted: bool
    rotation: RotationCheck | None
    applicability: UnlikeShare | None

    def added_to(self, done: Prediction) -> Prediction:
        """What was made, and how the model fits the scene."""
        return replace(
            done,
            shift=self.shift,
            adapted=self.adapted,
            rotation=self.rotation,
            applicability=done.applicability or self.applicability,
        )


def fit_scene(
    bundle: Bundle, scene: Scene, options: PredictOptions, tell: Tell = _silent
) -> tuple[Predictor, SceneFit]:
    """A predictor for a scene that may differ from the training scenes; tells how it differs.

    With ``options.adapt`` its band scaling fits the scene's light, unless the network knows the
    scene as it is. Where the network does not know the scene, the spectral classifier counts, too.

    Warns
    -----
    UserWarning
        The scene differs so much that the map may be spoiled.
    """
    refinement = choose_weights(options.refine, bundle.refinement)
    predictor = Predictor(bundle, options.device, refinement, options.approximate)
    rotation = check_rotation(predictor, scene)
    known = rotation is not None and rotation.known
    shift: SceneShift | None
    adapted = False
    spectra = sample_spectra(scene, bundle.good_bands)
    if options.adapt and not known:
        bundle, shift, adapted = adapt(bundle, scene, spectra)
    else:
        measured = measure_shift(bundle, scene, spectra)
        shift = measured and measured[0]
    if options.adapt:
        tell("adapted to the scene's light" if adapted else "not adapted: the scene fits as it is")
    if adapted:
        predictor = Predictor(bundle, options.device, refinement, options.approximate)
        rotation = check_rotation(predictor, scene)
    unlike = sampled_share(predictor, spectra)
    del spectra  # room for what is scored now
    if rotation is not None:
        predictor = let_spectra_count(predictor, scene, rotation)
    if shift is not None:
        tell(shift.sentence())
    for warning in (shift and shift.warning(adapted), rotation and rotation.warning()):
        if warning:
            warnings.warn(f"{scene.path}: {warning}", stacklevel=2)
    if options.confidence and bundle.applicability is None:
        tell("no dissimilarity: the model is of an older version, or had too few labels for it")
    return predictor, SceneFit(shift, adapted, rotation, unlike)


def sampled_share(predictor: Predictor, spectra: npt.NDArray[np.float32]) -> UnlikeShare | None:
    """How much of a sample of a scene is unlike anything labelled; None where nothing can tell."""
    if predictor.applicability is None or not len(spectra):
        return None
    some = torch.from_numpy(spectra[:: -(-len(spectra) // DISTANCES)].copy())
    seen = predictor.network.normalise(some.to(predictor.device))
    unlike = predictor.applicability.dissimilarity(seen)
    return UnlikeShare(float((unlike > 1).double().mean()), len(some), whole_scene=False)


def write_tiles(predictor: Predictor, scene: Scene, plan: TilePlan, files: MapFiles) -> None:
    """Score a scene tile by tile; the next is read and the last is written meanwhile."""
    unlike = files.dissimilarity_path is not None
    tiles = predictor.map_tiles(scene, plan.tiles, with_dissimilarity=unlike)
    with WriteBehind() as writer, closing(tiles) as parts:
        for part in parts:
            writer.call(files.write, part)
