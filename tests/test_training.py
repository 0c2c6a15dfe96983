from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from scenes import ArrayScene, dataset_of, field_cube, field_labels, field_scene, randomise

from hsifcn.core.errors import FailedError, LabelError, SettingError, UnreadableFileError
from hsifcn.data.splits import Split, make_split
from hsifcn.inference.bundle import load_model
from hsifcn.inference.predictor import Predictor
from hsifcn.models import DEFAULT_MODEL, MODELS, build, default_spec
from hsifcn.models.batchnorm import reestimate
from hsifcn.models.temperature import fit_temperature
from hsifcn.training.loop import Checkpoint, initial_state
from hsifcn.training.objectives import SceneObjective, class_weights, labelled_cross_entropy
from hsifcn.training.optimiser import AdamW, learning_rate
from hsifcn.training.patches import PatchObjective
from hsifcn.training.scenes import label_scene, load_whole_scenes, scene_scaling
from hsifcn.training.settings import TrainOptions, default_options
from hsifcn.training.train import train

pytestmark = pytest.mark.usefixtures("small_models")

TRAINED = [DEFAULT_MODEL, "patch5"]  # on scenes, on patches
LEARNERS = [DEFAULT_MODEL, "fcn1s", "patch5"]  # fine enough for fields of five pixels


def short(model=DEFAULT_MODEL, steps=12, **changes):
    return replace(default_options(model, steps=steps), evaluate_every=3, **changes)


def fit(scenes, splits, options, classes=3, **run):
    return train(dataset_of(scenes, splits, classes), options, **run)


def weight_bytes(trained):
    """The weights as one string of bytes; ``trained`` or its bundle."""
    weights = getattr(trained, "bundle", trained).weights
    return b"".join(name.encode() + weights[name].numpy().tobytes() for name in sorted(weights))


@pytest.fixture
def scene():
    return field_scene()[0]


@pytest.fixture
def split():
    return make_split(field_scene()[1], "random:0.4:val=0.2")


class TestSettings:
    def test_every_model_has_some(self):
        for name in MODELS:
            settings = default_options(name, 3, inductive=True)
            assert (settings.model, settings.seed, settings.inductive) == (name, 3, True)
            assert settings.steps > settings.evaluate_every
        assert default_options(steps=7).steps == 7

    def test_an_unknown_model(self):
        with pytest.raises(SettingError, match="no model 'vgg'"):
            default_options("vgg")

    def test_a_single_step_has_a_rate(self):
        assert learning_rate(0, TrainOptions(steps=1)) > 0

    @pytest.mark.parametrize("steps", [2, 5, 300])
    def test_the_rate_rises_and_falls_once(self, steps):
        settings = TrainOptions(steps=steps)
        rates = [learning_rate(step, settings) for step in range(steps)]
        top = int(np.argmax(rates))
        assert rates[top] == pytest.approx(settings.learning_rate)
        assert rates[: top + 1] == sorted(rates[: top + 1])
        assert rates[top:] == sorted(rates[top:], reverse=True)
        assert min(rates) > 0


@pytest.mark.parametrize("model", LEARNERS)
def test_training_learns_the_fields(scene, split, model):
    trained = fit(scene, split, short(model, 60, learning_rate=1e-2))
    labels = Predictor(trained.bundle).label_map(scene)
    assert (labels == split.labels)[split.test].mean() > 0.9
    losses = [row["loss"] for row in trained.log]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("model", TRAINED)
def test_the_same_seed_gives_the_same_bytes(scene, split, model):
    first, second, other = (fit(scene, split, short(model, seed=seed)) for seed in (0, 0, 1))
    assert weight_bytes(first) == weight_bytes(second)
    assert weight_bytes(first) != weight_bytes(other)
    assert first.best_step == second.best_step


PROCESS = """
import sys
from pathlib import Path
from scenes import dataset_of, field_scene
from hsifcn.data.splits import make_split
from hsifcn.training.settings import default_options
from hsifcn.training.train import train

scene, labels = field_scene()
dataset = dataset_of(scene, make_split(labels, "random:0.4:val=0.2"))
trained = train(dataset, default_options(sys.argv[1], steps=4))
compilers = [name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))]
trained.bundle.save(Path(sys.argv[2]))
print(*compilers)
"""


def train_in_a_process(model, path):
    """Hash of the bundle's file, and modules of PyTorch's compiler that were loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, model, str(path)],
        check=True,
        cwd=Path(__file__).parent,
        timeout=120,
        stdout=subprocess.PIPE,
        text=True,
    )
    return hashlib.sha256(path.read_bytes()).hexdigest(), tuple(done.stdout.split())


@pytest.mark.slow
def test_training_does_not_load_the_compiler(tmp_path):
    _, compiler = train_in_a_process(DEFAULT_MODEL, tmp_path / "a.safetensors")
    assert compiler == ()


@pytest.mark.slow
@pytest.mark.parametrize("model", [DEFAULT_MODEL, "patch5"])
def test_two_processes_write_the_same_file(tmp_path, model):
    found = [train_in_a_process(model, tmp_path / f"{i}.safetensors") for i in range(2)]
    assert found[0] == found[1]
    assert found[0][1] == ()  # no compiler


def scrambled(split, mask, seed=0):
    """The same masks over labels that are drawn anew where ``mask`` is."""
    labels = split.labels.copy()
    labels[mask] = np.random.default_rng(seed).permutation(labels[mask])
    assert (labels != split.labels).any()
    return replace(split, labels=labels)


@pytest.mark.parametrize("inductive", [False, True])
@pytest.mark.parametrize("model", TRAINED)
def test_no_test_label_is_seen(scene, split, model, inductive):
    settings = short(model, 6, inductive=inductive)
    trained = fit(scene, split, settings)
    blind = fit(scene, scrambled(split, split.test), settings)
    assert weight_bytes(trained) == weight_bytes(blind)
    assert trained.best_step == blind.best_step
    assert trained.bundle.temperature == blind.bundle.temperature
    assert [row["loss"] for row in trained.log] == [row["loss"] for row in blind.log]
    seeing = fit(scene, scrambled(split, split.train), settings)
    assert weight_bytes(trained) != weight_bytes(seeing)


def test_unlabelled_pixels_are_not_learnt_from(scene, split):
    """More labels that no mask holds change nothing."""
    labels = split.labels.copy()
    labels[labels == 0] = 1
    masks = {name: getattr(split, name) for name in ("train", "validation", "test")}
    more = Split(labels=labels, **masks, recipe="", seed=0)
    assert weight_bytes(fit(scene, split, short())) == weight_bytes(fit(scene, more, short()))


def without(split, label):
    """The split with no training and validation pixel of one class."""
    kept = split.labels != label
    return replace(split, train=split.train & kept, validation=split.validation & kept)


@pytest.mark.parametrize("model", TRAINED)
def test_a_class_without_training_pixels(scene, split, model):
    trained = fit(scene, without(split, 2), short(model))
    assert all(torch.isfinite(tensor).all() for tensor in trained.bundle.weights.values())
    assert all(np.isfinite(row["loss"]) for row in trained.log)
    assert np.isfinite(Predictor(trained.bundle).whole_scene_logits(scene)).all()


def test_a_class_whose_training_pixels_hold_no_measurement(scene, split):
    cube = scene.cube.astype(np.float32)
    cube[split.labels == 2] = np.nan
    with pytest.warns(UserWarning, match=r"no training pixel of class 2 \(.*\) holds a meas"):
        fit(ArrayScene(cube), split, short())


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "patch5"])
def test_pixels_without_a_measurement_play_no_part(scene, split, model):
    cube = scene.cube.astype(np.float32)
    holes = np.zeros((20, 24), bool)
    holes[3:6, 7:11] = holes[19] = True
    assert (split.train & holes).any()
    assert (split.validation & holes).any()
    settings = short(model, 6)
    bundles = []
    for value, nodata in ((np.nan, None), (np.inf, None), (-9999, -9999.0), (0, 0.0)):
        holed = ArrayScene(np.where(holes[..., None], np.float32(value), cube), nodata=nodata)
        bundles.append(fit(holed, split, settings).bundle)
        labels = Predictor(bundles[-1]).label_map(holed)
        assert np.array_equal(labels == 0, holes)
    assert len({weight_bytes(bundle) for bundle in bundles}) == 1
    # Nor are their labels asked for.
    unlabelled = replace(
        split,
        train=split.train & ~holes,
        validation=split.validation & ~holes,
        test=split.test & ~holes,
    )
    assert weight_bytes(fit(holed, unlabelled, settings)) == weight_bytes(bundles[-1])


def test_no_training_pixel_holds_a_measurement(scene, split):
    cube = np.where(split.train[..., None], np.float32(np.nan), scene.cube)
    with pytest.raises(LabelError, match="no training pixel holds a measurement"):
        fit(ArrayScene(cube), split, short())


@pytest.mark.parametrize("model", TRAINED)
def test_without_validation_the_last_state_is_kept(scene, model):
    split = make_split(field_labels(), "random:0.4:val=0")
    trained = fit(scene, split, short(model, 7))
    assert trained.best_step == 7
    assert [row["step"] for row in trained.log] == [3, 6, 7]
    assert all(row["validation_oa"] is None for row in trained.log)
    assert (Predictor(trained.bundle).label_map(scene) > 0).all()


@pytest.mark.parametrize("model", TRAINED)
def test_the_temperature_is_fitted_on_validation_pixels(scene, split, model):
    trained = fit(scene, split, short(model, 30, learn_validation=False, propagation=0.0))
    assert trained.bundle.temperature == pytest.approx(
        temperature_at_validation_pixels(trained.bundle, scene, split), rel=0.011
    )


@pytest.mark.parametrize(("covered", "share"), [(0.0, 0.0), (0.3, 0.3), (1.0, 0.5)])
def test_confidence_is_a_mean_of_what_validation_and_left_out_pixels_tell(
    scene, split, monkeypatch, covered, share
):
    monkeypatch.setattr("hsifcn.training.train.label_coverage", lambda labels: covered)
    trained = fit(scene, split, short(steps=30, learn_validation=False))
    accuracy = validation_accuracy(trained.bundle, scene, split)
    expected = share * accuracy + (1 - share) * trained.evidence.expected_oa
    assert mean_confidence(trained.bundle, scene, ~split.train) == pytest.approx(expected, abs=0.01)


def test_without_validation_pixels_confidence_is_the_accuracy_to_expect(scene):
    split = make_split(field_labels(), "per-class:12:val=0")
    assert split.n_validation == 0
    trained = fit(scene, split, short(steps=60))
    confidence = mean_confidence(trained.bundle, scene, ~split.train)
    assert confidence == pytest.approx(trained.evidence.expected_oa, abs=0.01)


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "patch5"])
def test_where_nothing_tells_logits_stay_as_they_are(scene, model):
    few = make_split(field_labels(), "per-class:6")
    trained = fit(scene, few, short(model, 4, propagation=0.0))
    assert trained.bundle.temperature == 1.0
    assert trained.evidence is None


def mean_confidence(bundle, scene, where):
    """Mean of the greatest probability of pixels (rows, cols)."""
    logits = Predictor(bundle).whole_scene_logits(scene)
    shares = np.exp(logits - logits.max(0))
    return (shares / shares.sum(0)).max(0)[where].mean()


def validation_accuracy(bundle, scene, split):
    found = Predictor(bundle).whole_scene_logits(scene).argmax(0) + 1
    return (found == split.labels)[split.validation].mean()


def temperature_at_validation_pixels(bundle, scene, split):
    """That of a bundle's scores at the validation pixels."""
    logits = Predictor(bundle).whole_scene_logits(scene) * bundle.temperature
    held = split.validation
    return fit_temperature(logits[:, held].T, split.labels[held].astype(int) - 1)


class TestValidationPixelsLearntInTheEnd:
    STEPS = 30
    HELD_BACK = 24  # 80 % of them

    def test_are_held_back_until_then(self, scene, split):
        blind = scrambled(split, split.validation)
        settings = short(steps=self.STEPS)
        losses = [
            {row["step"]: row["loss"] for row in fit(scene, one, settings).log}
            for one in (split, blind)
        ]
        for step, loss in losses[0].items():
            assert (loss == losses[1][step]) == (step <= self.HELD_BACK)

    def test_validate_until_then_and_the_last_state_is_kept(self, scene, split):
        trained = fit(scene, split, short(steps=self.STEPS))
        for row in trained.log:
            assert (row["validation_oa"] is None) == (row["step"] > self.HELD_BACK)
        assert trained.best_step == self.STEPS

    def test_calibrate_the_state_before(self, tmp_path, scene, split, monkeypatch):
        monkeypatch.setattr("hsifcn.training.train.label_coverage", lambda labels: 1.0)
        settings = short(steps=self.STEPS)
        with pytest.raises(KeyboardInterrupt):
            fit(scene, split, settings, checkpoint=tmp_path, progress=stop_at(self.HELD_BACK))
        before = load_model(tmp_path / "model.safetensors")
        trained = fit(scene, split, settings)
        accuracy = validation_accuracy(before, scene, split)
        assert mean_confidence(
            trained.bundle, scene, ~(split.train | split.validation)
        ) == pytest.approx((accuracy + trained.evidence.expected_oa) / 2, abs=0.01)

    @pytest.mark.parametrize(
        ("model", "changes"),
        [("hsifcn", {"learn_validation": False}), ("hsifcn", {"propagation": 0.0}), ("patch5", {})],
    )
    def test_or_never(self, scene, split, model, changes):
        settings = short(model, self.STEPS, **changes)
        trained, blind = (
            fit(scene, one, settings) for one in (split, scrambled(split, split.validation))
        )
        assert [row["loss"] for row in trained.log] == [row["loss"] for row in blind.log]
        assert all(row["validation_oa"] is not None for row in trained.log)


def test_the_kept_state_is_one_that_validated_best(scene, split):
    trained = fit(scene, split, short(steps=30, learn_validation=False))
    by_step = {row["step"]: row["validation_oa"] for row in trained.log}
    assert trained.best_step >= 24  # the last fifth, when the rate is low
    assert by_step[trained.best_step] == max(oa for step, oa in by_step.items() if step >= 24)
    assert trained.bundle.split[0]["digest"] == split.digest
    assert trained.bundle.settings["seed"] == 0


def stop_at(step):
    def progress(done, loss, validation_oa):
        if done == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        *((model, "random:0.4:val=0.2") for model in (*TRAINED, "segnet")),
        (DEFAULT_MODEL, "random:0.4:val=0"),
    ],
)
@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, scene, model, recipe):
    split = make_split(field_labels(), recipe)
    settings = short(model, 11)
    whole = fit(scene, split, settings)
    for stop in (1, 4, 9):  # twice and again
        with pytest.raises(KeyboardInterrupt):
            fit(
                scene, split, settings,
                checkpoint=tmp_path, resume=True, progress=stop_at(stop),
            )  # fmt: skip
        assert {file.name for file in tmp_path.iterdir()} == {
            "state.safetensors",
            "model.safetensors",
        }
    steps = []
    resumed = fit(
        scene, split, settings,
        checkpoint=tmp_path, resume=True, progress=lambda step, *_: steps.append(step),
    )  # fmt: skip
    assert steps == [10, 11]
    assert weight_bytes(resumed) == weight_bytes(whole)
    assert resumed.best_step == whole.best_step
    for resumed_row, row in zip(resumed.log, whole.log, strict=True):
        assert {**resumed_row, "seconds": 0} == {**row, "seconds": 0}


def test_a_saved_state_is_loaded_whole(tmp_path):
    spec, settings = default_spec(DEFAULT_MODEL, 4, 2), short()
    state, fresh = (initial_state(spec, replace(settings, seed=seed), {}) for seed in range(2))
    state.network(torch.randn(1, 4, 9, 9)).square().sum().backward()
    state.optimiser.step(0.1)
    state.step, state.best_step, state.seconds = 7, 5, 1.5
    state.best = {name: tensor + 1 for name, tensor in state.averaged.state_dict().items()}
    state.log = [{"step": 5, "loss": 0.1 + 0.2, "validation_oa": None}]
    checkpoint = Checkpoint(tmp_path, {"seed": 0, "widths": (8, 8)})
    assert not checkpoint.load(fresh)
    checkpoint.save(state)
    assert checkpoint.load(fresh)
    for field in fields(state):
        wanted, found = getattr(state, field.name), getattr(fresh, field.name)
        if isinstance(wanted, torch.nn.Module | AdamW):
            wanted, found = wanted.state_dict(), found.state_dict()
        if isinstance(wanted, dict):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        else:
            assert found == wanted


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "patch5"])
def test_an_interrupted_run_leaves_a_model_to_predict_with(tmp_path, scene, split, model):
    with pytest.raises(KeyboardInterrupt):
        fit(scene, split, short(model, 60), checkpoint=tmp_path, progress=stop_at(50))
    bundle = load_model(tmp_path / "model.safetensors")
    labels = Predictor(bundle).label_map(scene)
    assert (labels == split.labels)[split.train].mean() > 0.6


def test_an_interrupt_without_a_folder_leaves_nothing(tmp_path, monkeypatch, scene, split):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(scene, split, short(), progress=stop_at(3))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def left_state(small_models_in_module, tmp_path_factory):
    """What an interrupted run leaves; not to be changed."""
    folder = tmp_path_factory.mktemp("interrupted")
    scene, labels = field_scene()
    with pytest.raises(KeyboardInterrupt):
        fit(
            scene, make_split(labels, "random:0.4:val=0.2"), short(),
            checkpoint=folder, progress=stop_at(4),
        )  # fmt: skip
    return folder


@pytest.fixture
def interrupted(left_state, tmp_path):
    shutil.copytree(left_state, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(
    "change", [{"steps": 13}, {"seed": 1}, {"learning_rate": 0.1}, {"inductive": True}]
)
def test_a_run_with_other_settings_is_not_resumed(interrupted, scene, split, change):
    with pytest.raises(SettingError, match="other settings or input"):
        fit(scene, split, replace(short(), **change), checkpoint=interrupted, resume=True)


def test_a_run_on_other_input_is_not_resumed(interrupted, scene, split):
    brighter = scene.with_cube(scene.cube + 1)
    for other in ((brighter, split), (scene, scrambled(split, split.train))):
        with pytest.raises(SettingError, match="other settings or input"):
            fit(*other, short(), checkpoint=interrupted, resume=True)
    with pytest.raises(SettingError, match="other settings or input"):
        fit(scene, split, short(), classes=4, checkpoint=interrupted, resume=True)


def test_a_network_of_other_widths_is_not_resumed(interrupted, scene, split, monkeypatch):
    wider = replace(MODELS[DEFAULT_MODEL], stem=(16, 16))
    monkeypatch.setitem(MODELS, DEFAULT_MODEL, wider)
    with pytest.raises(SettingError, match="other settings or input"):
        fit(scene, split, short(), checkpoint=interrupted, resume=True)


def test_a_damaged_state_is_told(interrupted, scene, split):
    state = interrupted / "state.safetensors"
    whole = state.read_bytes()
    flipped = whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]  # a bit of a tensor
    for damaged in (whole[:-100], flipped):
        state.write_bytes(damaged)
        with pytest.raises(UnreadableFileError, match=r"state\.safetensors is damaged"):
            fit(scene, split, short(), checkpoint=interrupted, resume=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("identity", None), ("best_step", None), ("step", "x"), ("log", 3), ("best_oa", [])],
)
def test_a_state_with_another_header_is_told(interrupted, scene, split, key, value):
    state = interrupted / "state.safetensors"
    with safetensors.safe_open(state, framework="pt") as file:
        header = json.loads(file.metadata()["hsifcn"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["checksum"]
    if value is None:
        del header[key]
    else:
        header[key] = value
    metadata = {"hsifcn": json.dumps(header, sort_keys=True)}
    safetensors.torch.save_file(tensors, state, metadata)
    with pytest.raises(UnreadableFileError, match=r"state\.safetensors is damaged"):
        fit(scene, split, short(), checkpoint=interrupted, resume=True)


def test_without_resume_a_left_state_is_not_looked_at(interrupted, scene, split):
    assert weight_bytes(fit(scene, split, short(), checkpoint=interrupted)) == weight_bytes(
        fit(scene, split, short())
    )


def test_divergence_is_told(scene, split):
    with pytest.raises(FailedError, match=r"training diverged at step \d+"):
        fit(scene, split, short(learning_rate=1e30))


@pytest.mark.parametrize("inductive", [False, True])
@pytest.mark.parametrize("model", LEARNERS)
@pytest.mark.slow
def test_several_scenes_train_together(model, inductive):
    pairs = [field_scene(20, 24, seed=0), field_scene(13, 31, seed=0)]
    scenes = [scene for scene, _ in pairs]
    splits = [make_split(labels, "random:0.4:val=0.2") for _, labels in pairs]
    trained = fit(scenes, splits, short(model, 60, inductive=inductive, learning_rate=1e-2))
    predictor = Predictor(trained.bundle)
    for scene, split in zip(scenes, splits, strict=True):
        assert (predictor.label_map(scene) == split.labels)[split.test].mean() > 0.8
    assert len(trained.bundle.split) == 2


@pytest.mark.parametrize("inductive", [False, True])
@pytest.mark.parametrize("model", TRAINED)
def test_one_scene_of_several_may_hold_no_training_pixel(scene, split, model, inductive):
    other, _ = field_scene(9, 10)
    nowhere = np.zeros((9, 10), bool)
    everything = np.ones((9, 10), np.uint16)
    untrained = replace(
        split, labels=everything, train=nowhere | (np.arange(10) == 0), validation=nowhere,
        test=nowhere | (np.arange(10) == 9),
    )  # fmt: skip
    lost = other.cube.astype(np.float32)
    lost[:, 0] = np.nan
    settings = short(model, 4, inductive=inductive)
    trained = fit([scene, ArrayScene(lost)], [split, untrained], settings)
    assert all(torch.isfinite(tensor).all() for tensor in trained.bundle.weights.values())


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("model", [*TRAINED, "fcn32s", "patch31"])
@pytest.mark.parametrize("inductive", [False, True])
def test_scenes_smaller_than_the_stride(shape, model, inductive):
    labels = (np.arange(shape[0] * shape[1]).reshape(shape) % 2 + 1).astype(np.uint16)
    cube = np.random.default_rng(0).normal(size=(*shape, 4)) + 3 * labels[..., None]
    train_mask = np.zeros(shape, bool)
    train_mask.flat[: labels.size // 2 + 1] = True
    nothing = np.zeros(shape, bool)
    split = Split(labels, train_mask, nothing, ~train_mask, recipe="", seed=0)
    scene = ArrayScene(cube.astype(np.float32))
    trained = fit(scene, split, short(model, 5, inductive=inductive), classes=2)
    logits = Predictor(trained.bundle).whole_scene_logits(scene)
    assert logits.shape == (2, *shape)
    assert np.isfinite(logits).all()


def test_inductive_training_of_patches_looks_no_farther_than_they_reach(scene):
    """Spectra that no training or validation patch holds change nothing; else they do."""
    labels = np.zeros((20, 24), np.uint16)
    labels[3:6, 3:20] = 1
    labels[6:9, 3:20] = 2
    masks = {name: np.zeros((20, 24), bool) for name in ("train", "validation", "test")}
    masks["train"][3:9, 3:8] = masks["validation"][3:9, 8:10] = masks["test"][3:9, 15:20] = True
    split = Split(labels, **masks, recipe="", seed=0)
    changed = scene.cube.copy()
    changed[12:] += 700
    changed[:, 13:] += 300
    for inductive in (True, False):
        first, second = (
            fit(scene.with_cube(cube), split, short("patch5", 5, inductive=inductive), classes=2)
            for cube in (scene.cube, changed)
        )
        assert (weight_bytes(first) == weight_bytes(second)) == inductive


def test_materialised_patches_train_the_same_network(scene, split):
    stored = fit(scene, split, short("patch5", materialised=True))
    assert weight_bytes(stored) == weight_bytes(fit(scene, split, short("patch5")))


class Still:
    """A generator that draws no symmetry."""

    def integers(self, *_):
        return 0


def held(*pairs):
    scenes, splits = [scene for scene, _ in pairs], [split for _, split in pairs]
    bands = np.ones(scenes[0].shape[2], bool)
    scaling = scene_scaling(scenes, splits, bands, False)
    labelled = [label_scene(*pair, bands, inductive=False) for pair in pairs]
    return load_whole_scenes(labelled, bands, scaling, torch.device("cpu"))


def gradients(source):
    network = randomise(build(default_spec(DEFAULT_MODEL, 12, 3))).train()
    loss = SceneObjective(source, 3, 0.1, 0.0).backward(network, Still())
    return loss, {name: p.grad for name, p in network.named_parameters()}


def test_a_scene_given_twice_counts_once(scene, split):
    loss, wanted = gradients(held((scene, split)))
    loss_of_two, found = gradients(held((scene, split), (scene, split)))
    assert loss_of_two == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)


def test_the_loss_is_divided_by_the_weight_of_all_scenes(scene, split):
    turned = scene.with_cube(scene.cube[::-1, ::-1].copy())
    source = held((scene, split), (turned, without(split, 3)))
    network = randomise(build(default_spec(DEFAULT_MODEL, 12, 3))).train()
    loss = SceneObjective(source, 3, 0.1, 0.0).backward(network, Still())
    batch = source.batch
    with torch.no_grad():
        scores = network(batch.cube).permute(0, 2, 3, 1).reshape(-1, 3)[batch.pixels]
    counts = torch.bincount(batch.targets, minlength=3).numpy()
    wanted = F.cross_entropy(
        scores, batch.targets, torch.from_numpy(class_weights(counts)), label_smoothing=0.1
    )
    assert loss == pytest.approx(wanted.item(), rel=1e-4)


def test_patches_and_scenes_are_weighted_alike(scene, split):
    once = held((scene, without(split, 2)))
    ours = PatchObjective(once, 3, 0.1, 0.0, 5, False).weights
    torch.testing.assert_close(ours, SceneObjective(once, 3, 0.1, 0.0).weights)
    assert ours[1] == 0
    assert ours[once.batch.targets].mean() == pytest.approx(1, rel=1e-5)


def pieces():
    """Six pieces of a scene, each brighter or darker than the next, and their splits."""
    labels = field_labels(40, 60, field=10)
    cube = field_cube(labels, noise=0.5).astype(np.float32)
    ramp = np.linspace(0, 1500, 60, dtype=np.float32)[:, None] * np.linspace(0, 1, 12)
    cube += ramp.astype(np.float32)
    found = []
    for row in (0, 20):
        for col in (0, 20, 40):
            part = (slice(row, row + 20), slice(col, col + 20))
            found.append((ArrayScene(cube[part].copy()), labels[part].copy()))
    return [(one, make_split(labels, "random:0.4:val=0.2")) for one, labels in found]


@pytest.mark.slow
def test_what_is_stored_scores_validation_pixels_as_the_evaluations_did():
    """Batch statistics of six pieces are those of all together, in training and in the model."""
    scenes, splits = zip(*pieces(), strict=True)
    settings = short(steps=40, learn_validation=False, learning_rate=1e-2)
    trained = fit(list(scenes), list(splits), settings)
    predictor = Predictor(trained.bundle)
    right = np.concatenate(
        [
            (predictor.label_map(scene) == split.labels)[split.validation]
            for scene, split in zip(scenes, splits, strict=True)
        ]
    )
    by_step = {row["step"]: row["validation_oa"] for row in trained.log}
    assert right.mean() == pytest.approx(by_step[trained.best_step], abs=1e-6)


@torch.no_grad()
def test_statistics_of_each_scene_alone_would_be_noticed():
    source = held(*pieces())
    network = randomise(build(default_spec(DEFAULT_MODEL, 12, 3)))
    objective = SceneObjective(source, 3, 0.1, 0.0)
    reestimate(network, objective.run, objective.calls)
    batch = source.batch
    stored = network.eval()(batch.cube)
    together = network.train()(batch.cube)
    alone = torch.cat([network(cube[None]) for cube in batch.cube])
    torch.testing.assert_close(together, stored, atol=1e-3, rtol=1e-3)
    assert (alone - stored).abs().max() > 0.5


@pytest.mark.parametrize("change", [1.25, 0.8, 0.25])
def test_a_brighter_or_darker_scene_is_mapped_the_same(scene, split, change):
    bundle = fit(scene, split, short(steps=20)).bundle
    cube = scene.cube.astype(np.float32)
    cube[3:5, 6:9] = np.nan
    changed = ArrayScene(cube * np.float32(change))
    predictor = Predictor(bundle)
    wanted = predictor.whole_scene_logits(ArrayScene(cube))
    np.testing.assert_allclose(predictor.whole_scene_logits(changed), wanted, atol=2e-3)
    np.testing.assert_array_equal(predictor.label_map(changed) == 0, np.isnan(cube).any(2))


def test_a_scene_stored_in_fewer_bits_is_mapped_the_same(scene, split):
    bundle = fit(scene, split, short(steps=30)).bundle
    fewer = scene.with_cube(np.round(scene.cube / 20).astype(np.uint8))
    assert fewer.cube.max() < 255
    predictor = Predictor(bundle)
    assert (predictor.label_map(fewer) == predictor.label_map(scene)).mean() > 0.95


def test_propagated_labels_are_learnt_from_unless_inductive(scene, split):
    alone = fit(scene, split, short(propagation=0.0))
    assert weight_bytes(alone) != weight_bytes(fit(scene, split, short()))
    assert default_options(inductive=True).propagation == 0
    assert default_options("patch15").propagation == 0


@pytest.mark.slow
def test_propagation_fills_fields_that_hold_no_label():
    """Noisy fields, one in five labelled: the others are told by their spectra and their extent."""
    settings = short(steps=60, learning_rate=1e-2)
    right: dict[float, list[float]] = {0.0: [], 1.0: []}
    for seed in range(3):
        labels = field_labels(40, 48, seed=seed)
        scene = ArrayScene(field_cube(labels, noise=1.0, seed=seed))
        split = make_split(labels, "fields:0.3")
        for weight, shares in right.items():
            trained = fit(scene, split, replace(settings, propagation=weight))
            found = Predictor(trained.bundle).label_map(scene)
            shares.append((found == labels)[split.test].mean())
    assert min(right[1.0]) > 0.98
    assert np.mean(right[1.0]) > np.mean(right[0.0]) + 0.05


def test_class_weights():
    weights = class_weights(np.array([1, 4, 0, 100]))
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights[[0, 1]] / weights[3], [10, 5], rtol=1e-6)
    assert weights[2] == 0
    assert (weights * [1, 4, 0, 100]).sum() / 105 == pytest.approx(1)


def test_the_loss_is_summed_over_the_pixels_given():
    logits = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    pixels, targets = torch.tensor([0, 7, 19]), torch.tensor([2, 0, 1])
    weights = torch.tensor([1.0, 2.0, 0.5])
    found = labelled_cross_entropy(logits, pixels, targets, weights, 0.0)
    shares = logits.softmax(1)[0]
    wanted = -(0.5 * shares[2, 0, 0].log() + shares[0, 1, 2].log() + 2 * shares[1, 3, 4].log())
    torch.testing.assert_close(found, wanted)


def test_the_optimiser_is_that_of_pytorch():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (
        [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.zeros(5))] for _ in range(2)
    )
    optimiser = AdamW(ours, weight_decay=0.1)
    reference = torch.optim.AdamW(theirs, weight_decay=0.1)
    for step in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        reference.param_groups[0]["lr"] = 0.01 * (step + 1)
        optimiser.step(0.01 * (step + 1))
        reference.step()
        assert all(parameter.grad is None for parameter in ours)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
