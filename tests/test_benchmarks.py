"""The benchmarks' own arithmetic: what is kept, what is measured again, how rows are judged."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import finished_folder
from scenes import ArrayScene, field_cube, field_labels

from benchmarks import (
    accuracy,
    command,
    explanation,
    fleet,
    labelling,
    measuring,
    pages,
    scenes,
    transfer,
)
from hsifcn.core.errors import FailedError, SplitError
from hsifcn.data.splits import make_split

FIGURES = {"oa": 0.9, "aa": 0.8, "n_train": 10, "n_test": 100}


@dataclass(frozen=True)
class Cell:
    folder: Path
    contender: str
    fails: bool = False

    @property
    def file(self):
        return self.folder / f"{self.contender}.json"

    def measure(self):
        if self.fails:
            raise SplitError("too few labels", "label more")
        return dict(FIGURES)


def test_a_cell_that_cannot_be_measured_keeps_the_reason(tmp_path):
    assert "too few labels" in measuring.measure_and_keep(Cell(tmp_path, "svm", fails=True))
    assert measuring.kept(Cell(tmp_path, "svm"))["skipped"] == "too few labels"


@pytest.mark.parametrize("contender", ["hsifcn", "walker", "svm"])
def test_maps_have_the_numbers_of_the_labels_where_a_class_has_no_training_pixel(contender):
    labels = field_labels(classes=4)
    scene = ArrayScene(field_cube(labels))
    split = make_split(labels, "random:0.5", seed=0)
    none_of_two = split.labels == 2
    split = replace(
        split,
        train=split.train & ~none_of_two,
        validation=split.validation & ~none_of_two,
        test=split.test & ~none_of_two,
    )
    found = measuring.map_scene(contender, scene, split, 0)
    assert (found == labels)[split.test].mean() > 0.9


def test_what_is_kept_is_not_measured_again(tmp_path):
    cells = [Cell(tmp_path, name) for name in ("svm", "rf", "hsifcn")]
    for cell in cells[:2]:
        measuring.measure_and_keep(cell)
    given = Namespace(only="svm,rf", again="rf", workers=1)
    assert measuring.cells_to_measure(cells, given) == cells[1:2]
    given = Namespace(only="", again="", workers=1)
    assert measuring.cells_to_measure(cells, given) == cells[2:]


def rows_of(monkeypatch, folder, accuracies):
    """Rows of one scene and split a name, from OA and AA of each contender."""
    monkeypatch.setattr(scenes, "RESULTS", folder)
    cells = []
    for recipe, of_contenders in accuracies.items():
        for contender, (oa, aa) in of_contenders.items():
            cell = scenes.SceneCell(Path("field.tif"), Path("field_gt.tif"), recipe, contender, 0)
            cell.file.parent.mkdir(parents=True, exist_ok=True)
            cell.file.write_text(json.dumps({**FIGURES, "oa": oa, "aa": aa}))
            cells.append(cell)
    return scenes.collect(cells)


def test_a_row_is_judged_against_the_best_classifier_of_each_accuracy(tmp_path, monkeypatch):
    rows = rows_of(
        monkeypatch,
        tmp_path,
        {
            "random:0.1": {"hsifcn": (0.9, 0.9), "svm": (0.8, 0.6), "rf7x7": (0.7, 0.85)},
            "fields:0.2": {"hsifcn": (0.5, 0.4), "svm": (0.45, 0.5)},
        },
    )
    assert [row.gain("oa") for row in rows] == pytest.approx([10, 5])
    assert [row.gain("aa") for row in rows] == pytest.approx([5, -10])
    by_oa, by_aa, *means = scenes.verdict(rows)
    assert "fields:0.2" in by_oa
    assert "+5.0 points" in by_oa
    assert "-10.0 points" in by_aa
    assert "1 of 2 rows are below" in by_aa
    assert "+7.5 / -2.5" in means[0]
    assert "| 90.0 / 90.0 |" in "\n".join(scenes.table(rows))


@pytest.mark.parametrize("name", transfer.CHANGES)
def test_changes_keep_the_size_of_a_scene(name):
    cube = np.random.default_rng(0).uniform(1000, 5000, (6, 5, 200)).astype(np.float32)
    changed = transfer.CHANGES[name](cube)
    assert changed.shape == cube.shape
    assert np.isfinite(changed).all()
    assert np.array_equal(changed, cube) == (name == "same day")


def test_tasks_learn_no_pixel_that_they_are_measured_at():
    for training in transfer.TRAININGS:
        seen, test = transfer.pixels_of(training, 0)
        assert seen.any()
        assert test.any()
        assert not (seen & test).any()


def test_the_mean_of_halves_needs_all_four():
    rows = [[f"{a} half to {b} half", "same day", "40.0 / 50.0", ""] for a, b in ("ns", "sn", "we")]
    assert transfer.mean_of_halves(rows) == []
    rows.append(["e half to w half", "same day", "60.0 / 50.0", "1.0 / 1.0"])
    (mean,) = transfer.mean_of_halves(rows)
    assert mean[2:] == ["45.0 / 50.0", ""]


@pytest.mark.parametrize(
    ("page", "name", "told"),
    [
        (pages.README, "main job", "| `hsifcn`, the default |"),
        (accuracy.PAGE, "figures", "| hsifcn |"),
        (explanation.PAGE, "skips", "| `hsifcn` | learned |"),
        (fleet.PAGE, "figures", "\n"),
    ],
)
def test_figures_are_written_between_the_marks_of_their_page(page, name, told, tmp_path):
    copied = tmp_path / page.name
    shutil.copy(page, copied)
    figures = pages.read_figures(copied, name)
    assert told in figures
    pages.write_figures(copied, ["| a \\1 |", "| b |"], name)
    assert pages.read_figures(copied, name) == "| a \\1 |\n| b |\n"
    pages.write_figures(copied, figures.splitlines(), name)
    assert copied.read_bytes() == page.read_bytes()


def test_a_command_tells_what_it_printed_and_took(tmp_path):
    done = command.run_hsifcn("--version", folder=tmp_path)
    assert done.out.startswith("hsifcn")
    assert done.told == []
    assert done.seconds > 0
    assert 5e6 < done.peak < 1e9
    with pytest.raises(FailedError, match=r"^hsifcn info: error: none\.npy does not exist"):
        command.run_hsifcn("info", "none.npy", folder=tmp_path)


def test_the_figures_of_an_explanation_come_from_its_run(tmp_path):
    run = finished_folder() / "runs/cube"
    bundle, one, image = explanation.explained(run)
    oa = json.loads((run / "metrics.json").read_text())["oa"]
    assert f"| `hsifcn` | learned | {100 * oa:.1f} |" in "\n".join(explanation.table([one]))
    drawn = (explanation.depths(bundle, one), explanation.upsampling(one))
    for number, figure in enumerate((*drawn, explanation.sight([one], image))):
        path = tmp_path / f"{number}.png"
        explanation.save(figure, path)
        assert 2000 < path.stat().st_size < 300_000


def test_figures_of_the_docs_are_small_and_shown():
    folder = pages.DOCS / "figures"
    text = explanation.PAGE.read_text("utf-8")
    for path in folder.iterdir():
        assert path.stat().st_size < 300_000
        assert f"figures/{path.name}" in text


def test_labels_needed_lie_on_the_line_between_two_rounds():
    curve = np.array([[10, 0.5, 0.0], [20, 0.7, 0.0], [40, 0.6, 0.0], [80, 0.9, 0.0]])
    assert labelling.labels_needed(curve, 0.4) == 10
    assert labelling.labels_needed(curve, 0.6) == pytest.approx(15)
    assert labelling.labels_needed(curve, 0.8) == pytest.approx(40 + 40 * 2 / 3)
    assert labelling.labels_needed(curve, 0.95) is None


def test_the_page_of_labelling_tells_needs_and_draws_the_curves(tmp_path):
    def curve(*oa):
        return [{"labels": 10 * i, "oa": value, "aa": value} for i, value in enumerate(oa, 1)]

    curves = {
        "random": [curve(0.5, 0.6, 0.8), curve(0.5, 0.6, 0.9)],
        "uncertainty": [curve(0.5, 0.6, 0.7)] * 2,
        "suggest": [curve(0.5, 0.85, 0.9)] * 2,
    }
    tasks = [labelling.Task("field", "random:0.5", curves)]
    text = "\n".join(labelling.page(tasks, seeds=2))
    assert "| field, half of the pixels | 85.0 | 30 | over 30 | 20 |" in text
    assert "| field, half of the pixels | 30 | 85.0 ± 7.1 | 70.0 ± 0.0 | 90.0 ± 0.0 |" in text
    labelling.draw(tasks, tmp_path / "a.svg")
    labelling.draw(tasks, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_first_labels_and_choices_lie_in_the_pool():
    labels = np.repeat(np.arange(1, 4), 40).reshape(12, 10)
    pool = make_split(labels, "random:0.5")
    may = pool.train | pool.validation
    first = labelling.first_labels(pool, may, seed=1)
    assert np.bincount(labels[first]).tolist() == [0, 3, 3, 3]
    assert not (first & ~may).any()
    room = may & ~first
    rows, cols = labelling.choose("random", None, None, room, first, 7, seed=1)
    assert len(set(zip(rows.tolist(), cols.tolist(), strict=True))) == 7
    assert room[rows, cols].all()
