"""Which wavelengths a model looks at, and two checks of whether that may be believed.

The bands of a contiguous group are replaced by those of other places: the scene is shifted against
itself in these bands alone. So every value stays one that the scene holds, in neighbourhoods that
it holds, but tells nothing of the pixel; each group comes from a place of its own. What the
probability of the mapped class loses is the importance of the group (permutation importance,
Breiman 2001, doi:10.1023/A:1010933404324, for data whose neighbours depend on each other).

- *Deletion test* (Samek et al. 2017, doi:10.1109/TNNLS.2016.2599820): groups are replaced one after
  the other. If the ranking is right, accuracy falls faster when the important ones go first.
- *Weight randomisation* (Adebayo et al. 2018, *Sanity Checks for Saliency Maps*, NeurIPS): the same
  is done with weights shuffled within each layer. A ranking that survives tells of the spectra, not
  of what the model learnt, and is worthless as an explanation.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hsifcn.inference.explain.inputs import Mask
from hsifcn.models.batchnorm import reestimate

GROUPS = 16  # of contiguous bands, about
GAP = 3.0  # median spacings; where neighbours lie farther apart a group ends
ROUNDS = 3  # times that every group is replaced, each time from elsewhere
RANDOM_ORDERS = 3  # that the deletion test sets beside the ranking
NETWORKS = 3  # with shuffled weights
SURVIVES = 0.5  # mean rank correlation with shuffled weights from which a ranking is worthless


Replacement = tuple[slice, tuple[int, int]]  # bands, and by how many rows and columns shifted


@dataclass(frozen=True)
class BandGroup:
    """Neighbouring bands: positions among those that the model uses, and their names."""

    bands: slice
    first: str
    last: str


def band_groups(
    good_bands: Mask, wavelengths: npt.NDArray[np.float64] | None, wanted: int = GROUPS
) -> list[BandGroup]:
    """Cut the bands of a model into contiguous groups of about the same size.

    Parameters
    ----------
    good_bands : ndarray, (bands of the scene,), bool
        Those that the model uses.
    wavelengths : ndarray, (bands of the scene,), float64, or None
        In nm; groups end at gaps, as water vapour leaves them.
    wanted : int
        About how many groups.
    """
    used = np.flatnonzero(good_bands)
    ends: set[int] = set(np.flatnonzero(np.diff(used) > 1) + 1)
    if wavelengths is not None and len(used) > 1:
        steps = np.abs(np.diff(wavelengths[used]))
        ends |= set(np.flatnonzero(steps > GAP * np.median(steps)) + 1)
    size = max(1, round(len(used) / wanted))
    groups = []
    bounds = [0, *sorted(ends), len(used)]
    for start, stop in itertools.pairwise(bounds):
        parts = max(1, round((stop - start) / size))
        cuts = np.linspace(start, stop, parts + 1).round().astype(int)
        groups += [slice(int(a), int(b)) for a, b in itertools.pairwise(cuts)]

    def name(position: int) -> str:
        band = int(used[position])
        return f"band {band + 1}" if wavelengths is None else f"{wavelengths[band]:.0f} nm"

    return [BandGroup(group, name(group.start), name(group.stop - 1)) for group in groups]


class BandProbe:
    """Scores a scene with some of its bands replaced.

    The first layer of the stem is linear, so a replacement changes its output by the difference of
    the group's own part alone.

    Parameters
    ----------
    network : Module
        In the form that maps scenes, in evaluation mode.
    spectra : Tensor, (1, bands, rows, cols), float32
        Standardised.
    temperature : float
        What logits are divided by.
    """

    def __init__(self, network: Any, spectra: Tensor, temperature: float) -> None:
        self.network = network
        self.spectra = spectra
        self.temperature = temperature
        self.first = network.stem[0]
        with torch.no_grad():
            self.before = self.first.conv(spectra)

    @torch.no_grad()
    def probabilities(self, replaced: Sequence[Replacement] = ()) -> Tensor:
        """Probabilities, (classes, rows, cols), with some groups taken from elsewhere."""
        x = self.before.clone()
        for bands, shift in replaced:
            own = self.spectra[:, bands]
            weights = self.first.conv.weight[:, bands]
            x += nn.functional.conv2d(own.roll(shift, (2, 3)) - own, weights)
        x = torch.relu_(self.first.norm(x))
        for block in list(self.network.stem)[1:]:
            x = block(x)
        logits: Tensor = self.network.after_stem(x)[0] / self.temperature
        return logits.softmax(0)


def replacements(
    groups: Sequence[BandGroup], shape: tuple[int, int], rounds: int = ROUNDS
) -> list[list[Replacement]]:
    """For each round, each group and the shift that it is replaced with.

    Shifts are at least a quarter of the scene, and another one for each group: groups that came
    from the same place would together tell of that place.
    """
    rng = np.random.default_rng(0)

    def draw(length: int) -> int:
        return int(rng.integers(length // 4, max(length // 4 + 1, length - length // 4)))

    return [
        [(group.bands, (draw(shape[0]), draw(shape[1]))) for group in groups] for _ in range(rounds)
    ]


def importance(
    probe: BandProbe,
    rounds: Sequence[Sequence[Replacement]],
    pixels: Mask,
    number: int | None = None,
) -> npt.NDArray[np.float64]:
    """What the probability of a class loses where a group is replaced, mean over pixels.

    Parameters
    ----------
    probe : BandProbe
    rounds : sequence
        Of ``replacements``.
    pixels : ndarray, (rows, cols), bool
    number : int, optional
        The class, from 0; that of the map at each pixel otherwise.

    Returns
    -------
    ndarray, (groups, rounds), float64
    """
    whole = probe.probabilities()
    chosen = torch.from_numpy(pixels)
    classes = whole.argmax(0)[chosen][None]
    if number is not None:
        classes = torch.full_like(classes, number)
    before = whole[:, chosen].gather(0, classes)

    def loss(replaced: Replacement) -> float:
        after = probe.probabilities([replaced])[:, chosen].gather(0, classes)
        return float((before - after).mean())

    return np.array([[loss(replaced) for replaced in one] for one in rounds]).T


def deletion_curve(
    probe: BandProbe,
    order: Sequence[Replacement],
    truth: npt.NDArray[np.integer[Any]],
    pixels: Mask,
) -> list[float]:
    """Share of right pixels with the first 0, 1, 2, ... groups of an order replaced."""
    wanted = torch.from_numpy(truth[pixels].astype(np.int64))
    chosen = torch.from_numpy(pixels)
    curve = []
    for count in range(len(order) + 1):
        labels = probe.probabilities(order[:count]).argmax(0)[chosen] + 1
        curve.append(float((labels == wanted).float().mean()))
    return curve


def with_shuffled_weights(network: nn.Module, spectra: Tensor, seed: int) -> nn.Module:
    """The network with the weights of each layer shuffled, its batch statistics settled anew."""
    shuffled = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in shuffled.modules():
            if isinstance(module, nn.Conv2d):
                weight = module.weight
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.reshape(-1)[order].view_as(weight))
    reestimate(shuffled, lambda changed: changed(spectra), calls=1)
    return shuffled


def rank_correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Spearman's rank correlation of two lists without ties."""
    if len(a) < 3:
        return float("nan")
    ranks = np.stack([np.argsort(np.argsort(values)) for values in (a, b)])
    matrix: Any = np.corrcoef(ranks)
    return float(matrix[0, 1])


def band_record(
    network: nn.Module,
    spectra: Tensor,
    temperature: float,
    groups: Sequence[BandGroup],
    truth: npt.NDArray[np.integer[Any]],
    pixels: Mask,
) -> dict[str, Any]:
    """Importance of every group, the deletion test and the randomisation check.

    Parameters
    ----------
    network, spectra, temperature
        Of ``BandProbe``.
    groups : sequence of BandGroup
    truth : ndarray, (rows, cols), integer
        What counts as right: labels, or the map itself where there are none.
    pixels : ndarray, (rows, cols), bool
        Where it is measured.

    Returns
    -------
    dict
        Ready for JSON; see ``docs/files.md``.
    """
    probe = BandProbe(network, spectra, temperature)
    rounds = replacements(groups, (spectra.shape[2], spectra.shape[3]))
    losses = importance(probe, rounds, pixels)
    mean = losses.mean(1)
    curves = deletion_test(probe, rounds[0], mean, truth, pixels)
    area = {name: float(np.mean(curve)) for name, curve in curves.items()}
    shuffled = []
    for seed in range(NETWORKS):
        other = BandProbe(with_shuffled_weights(network, spectra, seed), spectra, temperature)
        shuffled.append(importance(other, rounds[:1], pixels)[:, 0])
    correlations = [rank_correlation(mean, values) for values in shuffled]
    return {
        "groups": [
            {
                "first": group.first,
                "last": group.last,
                "bands": group.bands.stop - group.bands.start,
                "importance": float(mean[i]),
                "std": float(losses[i].std()),
                "shuffled": [float(values[i]) for values in shuffled],
            }
            for i, group in enumerate(groups)
        ],
        "deletion": curves,
        "deletion_area": area,
        "deletion_agrees": area["important first"] < min(area["random"], area["important last"]),
        "rank_correlation_with_shuffled_weights": correlations,
        "survives_shuffled_weights": bool(np.mean(correlations) >= SURVIVES),
        "pixels": int(pixels.sum()),
    }


def deletion_test(
    probe: BandProbe,
    replaced: Sequence[Replacement],
    mean: npt.NDArray[np.float64],
    truth: npt.NDArray[np.integer[Any]],
    pixels: Mask,
) -> dict[str, list[float]]:
    """Curves with the important groups first, last, and the mean of random orders."""
    ranking = np.argsort(-mean)
    rng = np.random.default_rng(0)

    def curve(order: npt.NDArray[np.intp]) -> list[float]:
        return deletion_curve(probe, [replaced[i] for i in order], truth, pixels)

    random = [curve(rng.permutation(len(replaced))) for _ in range(RANDOM_ORDERS)]
    return {
        "important first": curve(ranking),
        "random": [float(value) for value in np.mean(random, axis=0)],
        "important last": curve(ranking[::-1]),
    }
