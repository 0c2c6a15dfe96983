"""The saved model: weights and all that is needed to use them, in one ``.safetensors`` file.

The file's header carries one key, ``hsifcn``, with sorted JSON; nothing is pickled, so loading a
file from somebody else executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hsifcn.core.errors import UnreadableFileError
from hsifcn.core.formats import html_table
from hsifcn.data.standardise import Scaling
from hsifcn.inference.applicability import Applicability
from hsifcn.inference.refine.potentials import Refinement, from_header
from hsifcn.inference.spectral_classifier import SpectralClassifier
from hsifcn.inference.spectral_summary import SpectralSummary
from hsifcn.io.files import atomic_write, utf8_path
from hsifcn.models import MODELS, ModelSpec, empty_network

FORMAT = 2  # of the header; raised when an older hsifcn could not read it
_LARGEST = 1e30  # means and standard deviations beyond it, or under its inverse, are damage
_HOTTEST = 1e3  # temperatures beyond it too
_DAMAGE = (  # what a header or weights changed at will lead to, from here, NumPy or PyTorch
    *(safetensors.SafetensorError, OSError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RuntimeError),
)


@dataclass(frozen=True, repr=False)
class Bundle:
    """A trained model.

    Attributes
    ----------
    spec : ModelSpec
        How to build the network.
    weights : dict of str to Tensor
        Its ``state_dict``.
    scaling : Scaling
        Statistics of the training scenes, over the bands used.
    good_bands : ndarray, (bands of the scene,), bool
        Bands used; ``spec.bands`` of them are True.
    wavelengths : ndarray, (bands of the scene,), float64, or None
        Of the training scenes, nm.
    class_names, colours : tuple
        Of classes 1, 2, ...
    settings : dict
        How it was trained.
    split : dict
        Recipe, seed and digest of the split of each training scene.
    versions : dict
        Of the libraries it was trained with.
    refinement : Refinement or None
        The back end whose weights were chosen in training, if one was.
    temperature : float
        What the network's logits are divided by, so that softmax gives probabilities.
    fwhm : ndarray, (bands of the scene,), float64, or None
        Full widths at half maximum of the training scenes' bands, nm.
    scale_factor : float or None
        The training scenes' voxels divided by it are reflectances; None where no file told.
    spectra : SpectralSummary or None
        What the training spectra are like; None in files of older versions.
    class_codes : tuple of int
        Values of classes 1, 2, ... in label files and maps; 1, 2, ... where not given.
    spectral_classifier : SpectralClassifier or None
        Learnt from the same labels, for scenes that the network does not know; None in files of
        older versions.
    changed_when_turned : float or None
        Share of the pixels of the training scenes that get another class when these are turned;
        see ``rotation.py``.
    applicability : Applicability or None
        A sample of what was labelled; None in files of older versions, and where the labels were
        too few. See ``applicability.py``.
    """

    spec: ModelSpec
    weights: dict[str, Tensor]
    scaling: Scaling
    good_bands: npt.NDArray[np.bool_]
    wavelengths: npt.NDArray[np.float64] | None
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    settings: dict[str, Any]
    split: list[dict[str, Any]]
    versions: dict[str, str]
    refinement: Refinement | None = None
    fwhm: npt.NDArray[np.float64] | None = None
    temperature: float = 1.0
    scale_factor: float | None = None
    spectra: SpectralSummary | None = None
    class_codes: tuple[int, ...] = ()
    spectral_classifier: SpectralClassifier | None = None
    changed_when_turned: float | None = None
    applicability: Applicability | None = None

    def __post_init__(self) -> None:
        if not self.class_codes:
            object.__setattr__(self, "class_codes", tuple(range(1, len(self.class_names) + 1)))

    def __repr__(self) -> str:
        weights = sum(tensor.numel() for tensor in self.weights.values())
        return (
            f"Bundle({self.spec.name}: {self.spec.bands} bands to {self.spec.classes} classes, "
            f"{weights:,} weights)"
        )

    def _repr_html_(self) -> str:
        return html_table(
            {
                "model": self.spec.name,
                "bands": f"{self.spec.bands} of {len(self.good_bands)}",
                "classes": ", ".join(self.class_names),
                "split": ", ".join(str(split.get("recipe")) for split in self.split),
                "weights": f"{sum(tensor.numel() for tensor in self.weights.values()):,}",
            }
        )

    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode, laid out channels-last."""
        network = empty_network(self.spec)
        network.load_state_dict(self.weights, assign=True)
        return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the bundle, atomically.

        Raises
        ------
        ExistingOutputError
            The file exists and ``overwrite`` is False.
        """
        header = self._header()
        tensors = dict(self.weights)
        for part in (self.spectral_classifier, self.applicability):
            tensors |= part.to_tensors() if part else {}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        header = json.loads(json.dumps(header))  # as it will be read: keys of text, lists
        header["checksum"] = checksum_of(header, contiguous)
        metadata = {"hsifcn": json.dumps(header, sort_keys=True)}
        with atomic_write(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(safetensors.torch.save(contiguous, metadata))

    def _header(self) -> dict[str, Any]:
        """All but the weights, as plain values."""
        return {
            "format": FORMAT,
            "spec": asdict(self.spec),
            "scaling": {
                "mean": self.scaling.mean.tolist(),
                "std": self.scaling.std.tolist(),
                "unit_length": self.scaling.unit_length,
            },
            "good_bands": self.good_bands.tolist(),
            "wavelengths": None if self.wavelengths is None else self.wavelengths.tolist(),
            "fwhm": None if self.fwhm is None else self.fwhm.tolist(),
            "scale_factor": self.scale_factor,
            "class_names": self.class_names,
            "class_codes": self.class_codes,
            "colours": self.colours,
            "settings": self.settings,
            "split": self.split,
            "versions": self.versions,
            "temperature": self.temperature,
            "refinement": self.refinement and asdict(self.refinement),
            "spectra": self.spectra and self.spectra.to_header(),
            "spectral": self.spectral_classifier and self.spectral_classifier.to_header(),
            "changed_when_turned": self.changed_when_turned,
        }


def load_model(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle.

    Raises
    ------
    UnreadableFileError
        The file is missing, damaged or no model of hsifcn.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableFileError(f"{path} does not exist", "name a .safetensors model or a run")
    try:
        with utf8_path(path) as name, safetensors.safe_open(name, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("hsifcn", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header is None:
            raise UnreadableFileError(f"{path} is no model of hsifcn", "train one: hsifcn train")
        if header["format"] > FORMAT:
            raise UnreadableFileError(f"{path} was written by a newer hsifcn", "update hsifcn")
        if header["spec"].get("members", 1) != 1:
            raise UnreadableFileError(
                f"{path} holds an ensemble of networks, which hsifcn no longer reads",
                "train one network: hsifcn train",
            )
        checksum = header.pop("checksum", None)  # older files have none
        if checksum is not None and checksum != checksum_of(header, weights):
            raise ValueError("its bytes are not those that were written: the checksum differs")
        return _from_header(header, weights)
    except _DAMAGE as error:
        raise UnreadableFileError(
            f"{path} is damaged or no model ({type(error).__name__}: {str(error)[:100]})",
            "copy it again or train anew",
        ) from error


def _from_header(header: dict[str, Any], weights: dict[str, Tensor]) -> Bundle:
    """Build and check a bundle; any contradiction in the header is a ValueError.

    What older files lack has a default.
    """
    raw = header["spec"]
    applicability = Applicability.take_from(weights, int(raw["bands"]))
    spectral_classifier = SpectralClassifier.take_from(
        weights, header.get("spectral"), int(raw["bands"]), int(raw["classes"])
    )
    spec = _read_spec(header["spec"], weights)
    names = tuple(str(name) for name in header["class_names"])
    scale, changed = header.get("scale_factor"), header.get("changed_when_turned")
    bundle = Bundle(
        spec=spec,
        weights=weights,
        scaling=Scaling(
            _numbers(header["scaling"]["mean"]),
            _numbers(header["scaling"]["std"]),
            bool(header["scaling"].get("unit_length", False)),  # older files have none
        ),
        good_bands=_numbers(header["good_bands"]).astype(bool),
        wavelengths=None if header["wavelengths"] is None else _numbers(header["wavelengths"]),
        class_names=names,
        class_codes=tuple(
            int(code) for code in header.get("class_codes", range(1, len(names) + 1))
        ),
        colours=tuple((int(r), int(g), int(b)) for r, g, b in header["colours"]),
        settings=dict(header["settings"]),
        split=list(header["split"]),
        versions=dict(header["versions"]),
        refinement=from_header(header.get("refinement")),
        fwhm=None if header.get("fwhm") is None else _numbers(header["fwhm"]),
        temperature=float(header.get("temperature", 1.0)),
        scale_factor=None if scale is None else float(scale),
        spectra=SpectralSummary.from_header(header.get("spectra"), spec.bands),
        spectral_classifier=spectral_classifier,
        changed_when_turned=None if changed is None else float(changed),
        applicability=applicability,
    )
    _check_counts(bundle)
    _check_numbers(bundle)
    return bundle


def _read_spec(raw: dict[str, Any], weights: dict[str, Tensor]) -> ModelSpec:
    """The spec that a header tells, which the weights fit."""
    spec = ModelSpec(
        str(raw["name"]),
        int(raw["bands"]),
        int(raw["classes"]),
        tuple(int(width) for width in raw["stem"]),
        tuple(int(width) for width in raw["widths"]),
    )
    if spec.name not in MODELS:
        raise ValueError(f"there is no model '{spec.name}'")
    # Compared with as many layers as there are weights, not with all that a header may ask for.
    n_layers = len(spec.stem) + len(spec.widths)
    if not 0 < n_layers <= len(weights) or _kinds(weights) != _kinds(
        empty_network(spec).state_dict()
    ):
        raise ValueError("weights and spec differ")
    return spec


def _check_counts(bundle: Bundle) -> None:
    """Raise ValueError where the parts of a bundle have different numbers of bands or classes."""
    spec, scaling = bundle.spec, bundle.scaling
    sizes = {spec.bands, len(scaling.mean), len(scaling.std), int(bundle.good_bands.sum())}
    classes = {len(bundle.class_names), len(bundle.colours), len(set(bundle.class_codes))}
    if len(sizes) > 1 or classes != {spec.classes}:
        raise ValueError("counts of bands or classes differ")
    for known in (bundle.wavelengths, bundle.fwhm):
        if known is not None and len(known) != len(bundle.good_bands):
            raise ValueError("counts of wavelengths and bands differ")


def _check_numbers(bundle: Bundle) -> None:
    """Raise ValueError where a number cannot be, or would make all of a map one class."""
    scaling, scale = bundle.scaling, bundle.scale_factor
    if not all(torch.isfinite(tensor).all() for tensor in bundle.weights.values()):
        raise ValueError("a weight is not finite")
    if not ((scaling.std >= 1 / _LARGEST) & (scaling.std <= _LARGEST)).all():
        raise ValueError("a standard deviation is not positive, or out of range")
    if (np.abs(scaling.mean) > _LARGEST).any():
        raise ValueError("a mean is out of range")
    if not 1 / _HOTTEST <= bundle.temperature <= _HOTTEST:
        raise ValueError("the temperature is not positive, or out of range")
    if bundle.changed_when_turned is not None and not 0 <= bundle.changed_when_turned <= 1:
        raise ValueError("a share of pixels is out of 0-1")
    if scale is not None and not 0 < scale < np.inf:
        raise ValueError("the scale factor is not positive")
    if not all(0 < code < 2**32 for code in bundle.class_codes):
        raise ValueError("a class code is out of range")
    if not all(0 <= channel <= 255 for colour in bundle.colours for channel in colour):
        raise ValueError("a colour is out of 0-255")


def checksum_of(header: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """SHA-256 of a header and of tensors, whatever their order in a file."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _kinds(weights: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of every tensor."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()}


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    """A list of finite numbers as an array."""
    numbers = np.array(values, np.float64)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError("a list of numbers holds something else")
    return numbers
