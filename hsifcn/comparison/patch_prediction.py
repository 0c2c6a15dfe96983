"""The classical way to map a scene with a patch CNN: one window a pixel.

``hsifcn predict`` casts patch CNNs instead; this is here to be compared with.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from hsifcn.core.scene import Scene
from hsifcn.inference.bundle import Bundle
from hsifcn.inference.predictor import check_scene
from hsifcn.models import MODELS
from hsifcn.models.layers import ConvBlock
from hsifcn.training.objectives import Patches
from hsifcn.training.scenes import read_standardised


class PatchPredictor:
    """A patch CNN that scores the window round each pixel.

    Parameters
    ----------
    bundle : Bundle
        Of a patch model.
    materialised : bool
        Store the windows of all pixels first, as most code does, instead of gathering them batch
        by batch.
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(self, bundle: Bundle, *, materialised: bool, device: str = "cpu") -> None:
        patch = MODELS[bundle.spec.name].patch
        assert patch is not None
        self.patch = patch
        self.bundle = bundle
        self.materialised = materialised
        self.device = torch.device(device)
        self.network = bundle.network().to(self.device)
        for block in [m for m in self.network.modules() if isinstance(m, ConvBlock)]:
            block.fold()

    @torch.inference_mode()
    def whole_scene_logits(self, scene: Scene) -> npt.NDArray[np.float32]:
        """Logits of every pixel, (classes, rows, cols)."""
        check_scene(self.bundle, scene)
        cube, _ = read_standardised(scene, self.bundle.good_bands, self.bundle.scaling)
        rows, cols = scene.shape[:2]
        pixels = torch.arange(rows * cols, device=self.device)
        patches = Patches([(cube.to(self.device), pixels)], self.patch, self.materialised)
        scores = torch.cat([self.network(chunk)[:, :, 0, 0] for chunk in patches.chunks()])
        scores = scores / self.bundle.temperature
        logits: npt.NDArray[np.float32] = scores.t().reshape(-1, rows, cols).cpu().numpy()
        return logits
