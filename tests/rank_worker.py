"""A training in float64 by one process or by several ranks: writes loss curve and weights.

Started by ``test_training_ranks.py``: ``python rank_worker.py whole|crops OUT``, with or without
``torchrun``.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import torch
from scenes import field_scene

from hsifcn.data.dataset import make_dataset
from hsifcn.data.splits import make_splits
from hsifcn.io import as_labels
from hsifcn.models.batchnorm import reestimate
from hsifcn.training.crops import CropSize
from hsifcn.training.loop import initial_state, run_steps
from hsifcn.training.pseudo_labelling import propagate_labels
from hsifcn.training.ranks import join_ranks
from hsifcn.training.settings import TrainOptions
from hsifcn.training.sources import make_objective, open_source
from hsifcn.training.train import labelled_scenes, untrained_model

STEPS = 50
SHAPES = {"whole": [(20, 24), (31, 18), (25, 25)], "crops": [(70, 50), (24, 60), (40, 40)]}
CROPS = CropSize(side=32, count=6, batch=5, core=32, halo=8, stride=8, window=48)


def small_dataset(shapes):
    """Scenes of several sizes, one of them with pixels without a measurement."""
    scenes, maps = [], []
    for number, (rows, cols) in enumerate(shapes):
        scene, labels = field_scene(rows, cols, seed=number, path=f"scene {number}")
        if number == 0:
            scene.cube[3:6, 4:9] = 0
        scenes.append(replace(scene, nodata=0.0))
        maps.append(as_labels(labels, scene))
    splits = list(make_splits(maps, "random:0.2:val=0.3", seed=0))
    return make_dataset(scenes, maps, splits)


def in_double(scene):
    pseudo = scene.pseudo_labels
    if pseudo is not None:
        pseudo = replace(pseudo, weights=pseudo.weights.double())
    return replace(scene, cube=scene.cube.double(), pseudo_labels=pseudo)


def main(kind, out):
    dataset = small_dataset(SHAPES[kind])
    with join_ranks("cpu") as ranks:
        options = TrainOptions(steps=STEPS, evaluate_every=1, ranks=ranks)
        crops = CROPS if kind == "crops" else None
        model = untrained_model(dataset, options)
        labelled = labelled_scenes(dataset, model, options)
        found = propagate_labels(
            labelled, model.good_bands, model.scaling, model.spec.classes, crops and crops.window,
            torch.device("cpu"),
        )  # fmt: skip
        source = open_source(labelled, model, crops, options).with_pseudo_labels(found.training)
        read = source.read
        source.read = lambda *given, **how: in_double(read(*given, **how))
        objective = make_objective(source, model.spec, options)
        objective.weights = objective.weights.double()
        state = initial_state(model.spec, options, {})
        for network in (state.network, state.averaged):
            network.double()
        for moments in (state.optimiser.means, state.optimiser.squares):
            moments[:] = [moment.double() for moment in moments]
        run_steps(state, objective, options, STEPS)
        reestimate(state.averaged, objective.run, objective.calls)
        _, targets = objective.validation_scores(state.averaged)
        if ranks.first:
            weights = {n: t.numpy() for n, t in state.averaged.state_dict().items()}
            np.savez(
                out,
                loss=[row["loss"] for row in state.log],
                oa=[row["validation_oa"] for row in state.log],
                n_validation=len(targets),
                size=ranks.size,
                **weights,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
