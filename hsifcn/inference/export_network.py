"""The network as other programs run it: raw spectra in, probabilities out, nothing to prepare.

What ``Predictor`` does around the network is put into it: choice of bands, pixels without a
measurement, scaling, temperature, softmax. So a program that knows nothing of hsifcn gets the
probabilities that ``hsifcn predict`` gets.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsifcn.inference.bundle import Bundle
from hsifcn.models.folding import RawSceneNetwork
from hsifcn.models.patch import CastPatchCNN

# Relative; programs that divide by 255 and multiply again return a value that differs by less.
_SAME = 1e-6


class ExportedNetwork(nn.Module):
    """A model with all that prepares its input and finishes its output.

    Parameters
    ----------
    bundle : Bundle
    nodata : float or None
        The value of voxels that hold no measurement. NaN and infinity never are one.
    """

    def __init__(self, bundle: Bundle, nodata: float | None = None) -> None:
        super().__init__()
        raw = RawSceneNetwork(bundle.network(), bundle.scaling)
        self.form = raw.form
        self.folded = raw.folded
        self.unit_length = raw.unit_length
        self.temperature = bundle.temperature
        self.register_buffer("mean", raw.get_buffer("mean")[:, None, None])
        self.register_buffer("inverse_std", raw.get_buffer("inverse_std")[:, None, None])
        self.all_bands = bool(bundle.good_bands.all())
        self.register_buffer("bands", torch.from_numpy(np.flatnonzero(bundle.good_bands)))
        self.nodata = None if nodata is None or math.isnan(nodata) else float(np.float32(nodata))

    def forward(self, image: Tensor) -> Tensor:
        """Map raw spectra to probabilities.

        Parameters
        ----------
        image : Tensor, (scenes, bands of the scene, rows, cols), float32

        Returns
        -------
        Tensor, (scenes, classes, rows, cols), float32
            They add up to 1; all are 0 where there is no measurement.
        """
        x = image if self.all_bands else image.index_select(1, self.get_buffer("bands"))
        measured = self.measured(x)
        x = torch.where(measured, x, torch.ones_like(x))
        if self.unit_length:
            x = x / x.square().sum(1, keepdim=True).sqrt().clamp(min=1e-30)
        mean = self.get_buffer("mean")
        x = torch.where(measured, x, mean)
        if not self.folded:
            x = (x - mean) * self.get_buffer("inverse_std")
        logits = self._after_stem(self.form.stem(x)) / self.temperature
        return logits.softmax(1) * measured

    def measured(self, x: Tensor) -> Tensor:
        """Where all bands hold one, as ``valid_pixels`` tells; (scenes, 1, rows, cols), bool."""
        # Compared with the greatest number, as ONNX Runtime has no isfinite.
        measured = (x.abs() <= torch.finfo(torch.float32).max).sum(1, keepdim=True) == x.shape[1]
        if self.nodata is not None and math.isfinite(self.nodata):
            unmeasured = (x - self.nodata).abs() <= _SAME * abs(self.nodata)
            least = max(1, math.ceil(x.shape[1] / 2)) if self.nodata == 0 else 1
            measured = measured & (unmeasured.sum(1, keepdim=True) < least)
        return measured

    def _after_stem(self, x: Tensor) -> Tensor:
        """Score what the stem made of a scene; a cast patch CNN has its margin put round it first.

        ``CastPatchCNN.after_stem`` fills memory that it allocated, which a graph cannot.
        """
        form = self.form
        if not isinstance(form, CastPatchCNN):
            scores: Tensor = form.after_stem(x)
            return scores
        outside = form.stem(x.new_zeros(1, form.bands, 1, 1))
        margin = (form.margin,) * 4
        inside = F.pad(torch.ones_like(x[:, :1]), margin) > 0
        scores = form.score(form.layers(torch.where(inside, F.pad(x, margin), outside)))
        return scores
