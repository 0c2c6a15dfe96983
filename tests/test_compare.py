"""What a comparison of patch CNN, cast and FCN says: the keys and values of comparison.json."""

from __future__ import annotations

import copy
import json
import re
import warnings

import numpy as np
import pytest
from cli_helpers import finished_comparison
from page_reader import (
    CHROMIUM,
    Page,
    assert_all_shown,
    assert_needs_nothing,
    assert_sound,
    opened_in_a_browser,
)

from hsifcn.inference.bundle import load_model
from hsifcn.models import DEFAULT_MODEL
from hsifcn.report import write_comparison_report
from hsifcn.report.quicklook import DIFFERENCE_COLOURS

pytestmark = pytest.mark.slow  # the comparison, made once, takes several processes

KEYS = {"scene", "environment", "splits", "contenders", "equivalence", "differences", "scaling"}
SPLIT = {"name", "recipe", "digest", "n_train", "n_test", "leakage"}
CONTENDER = {
    *("name", "kind", "storage", "split", "oa", "aa", "kappa", "params", "train_seconds"),
    *("predict_seconds", "pixels_per_second", "peak_train_bytes", "peak_predict_bytes"),
    *("baseline_bytes", "patch_store_bytes", "flops_train_step", "flops_predict"),
    "train_seconds_to_best",
}
DIFFERENCE = {"a", "b", "split", "oa_difference", "interval", "mcnemar_p"}


@pytest.fixture(scope="module")
def comparison():
    return json.loads((finished_comparison() / "out/comparison.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def rows(comparison):
    return {row["name"]: row for row in comparison["contenders"]}


def test_validation_accuracy_by_step_is_a_file_of_its_own(comparison):
    lines = (finished_comparison() / "out/validation_curves.csv").read_text("utf-8").splitlines()
    wanted = sum(
        accuracy is not None
        for row in comparison["contenders"]
        for _, accuracy in row["train_oa_curve"] or ()
    )
    assert len(lines) == 1 + wanted
    assert (finished_comparison() / "out/validation_curves.svg").exists() == (wanted > 0)


def test_all_keys(comparison):
    assert comparison.keys() >= KEYS
    assert all(split.keys() >= SPLIT for split in comparison["splits"])
    assert all(row.keys() >= CONTENDER for row in comparison["contenders"])
    assert all(row.keys() >= DIFFERENCE for row in comparison["differences"])
    assert comparison["equivalence"].keys() >= {
        "max_abs_logit_difference",
        "labels_equal",
        "n_pixels",
    }
    assert comparison["scaling"].keys() >= {"by_patch", "by_scene"}


def test_json_is_alone_on_stdout(comparison):
    assert json.loads((finished_comparison() / "compare.stdout").read_text()) == comparison


def test_who_takes_part(rows):
    kinds = {name: (row["kind"], row["storage"]) for name, row in rows.items()}
    assert kinds.pop("svm") == ("classical", "scene")
    assert kinds.pop("patch") == ("patch", "windowed")
    assert kinds.pop("materialised") == ("patch", "materialised")
    assert kinds.pop("cast") == ("cast", "scene")
    assert list(kinds.values()) == [("fcn", "scene")]


def test_accuracies_have_a_value_a_seed(rows):
    for row in rows.values():
        for key in ("oa", "aa", "kappa"):
            assert len(row[key]["values"]) == 1
            assert row[key]["mean"] == pytest.approx(row[key]["values"][0])
            assert -1 <= row[key]["mean"] <= 1


def test_what_networks_learn_from_and_how_long_is_told(comparison, rows):
    assert "4 steps" in comparison["steps"]
    assert {split["regime"] for split in comparison["splits"]} == {"labels-alone"}
    for row in rows.values():
        if row["kind"] != "classical":
            assert (row["steps"], row["stopped_by"]) == (4, "steps")
            assert row["flops_train"] == 4 * row["flops_train_step"]
    bundle = load_model(finished_comparison() / f"out/jobs/split-0/{DEFAULT_MODEL}-0.safetensors")
    assert bundle.settings["propagation"] == 0


def test_costs_are_measured(rows):
    for row in rows.values():
        assert row["train_seconds"] > 0
        assert row["pixels_per_second"] == pytest.approx(20 * 24 / row["predict_seconds"])
        for task in ("train", "predict"):
            assert row[f"peak_{task}_bytes"] > 10**7  # of a process with NumPy in it
        assert row["baseline_bytes"] <= row["peak_predict_bytes"]
        if row["kind"] != "classical":
            assert min(row["params"], row["flops_train_step"], row["flops_predict"]) > 0
    assert rows["cast"]["flops_predict"] < rows["patch"]["flops_predict"]


def test_the_cast_is_the_patch_cnn(comparison, rows):
    same = comparison["equivalence"]
    assert same["max_abs_logit_difference"] < 1e-3
    assert same["labels_equal"] == same["n_pixels"] == 20 * 24
    assert rows["cast"]["oa"] == rows["patch"]["oa"]
    assert rows["cast"]["params"] == rows["patch"]["params"]


def test_materialised_patches_share_the_weights_of_windowed_ones(comparison, rows):
    row = rows["materialised"]
    assert row["accuracy_of"] == "patch"
    assert row["oa"] == rows["patch"]["oa"]
    assert row["labels_equal"] == 20 * 24
    assert row["train_seconds_from_steps"] is None  # all four steps were run
    store = comparison["patch_store"]
    assert store["arithmetic_bytes"] == row["patch_store_bytes"] == 20 * 24 * 5 * 5 * 12 * 4
    assert store["apart"] == pytest.approx(store["measured_bytes"] / store["arithmetic_bytes"] - 1)


def test_the_verdict_has_two_sentences(comparison):
    accuracy, cost = comparison["verdict"]
    assert "OA" in accuracy
    assert "AA" in accuracy
    assert "s against" in cost


def test_the_split_is_the_same_for_all(comparison, rows):
    (split,) = comparison["splits"]
    assert split["recipe"] == "random:0.2"
    assert split["n_test"] > split["n_train"] > 0
    assert 0 <= split["leakage"]["test_touching"] <= 1
    assert {row["split"] for row in rows.values()} == {split["name"]}


def test_the_difference_is_that_of_the_accuracies(comparison, rows):
    (row,) = comparison["differences"]
    assert row["oa_difference"] == pytest.approx(
        rows[row["a"]]["oa"]["mean"] - rows[row["b"]]["oa"]["mean"]
    )
    low, high = row["interval"]
    assert low <= row["oa_difference"] <= high
    assert 0 <= row["mcnemar_p"] <= 1


def test_no_number_is_missing(comparison):
    def numbers(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [number for part in value for number in numbers(part)]
        return [value] if isinstance(value, float) else []

    assert np.isfinite(numbers(comparison)).all()


@pytest.fixture(scope="module")
def images():
    """Pictures of the size of the scene; what they show does not matter here."""
    picture = np.zeros((20, 24, 3), np.uint8)
    names = ["patch", "cast", DEFAULT_MODEL]
    return {
        "quicklook": picture,
        "truth": picture,
        "difference/random:0.2": picture,
        **{f"map/random:0.2/{name}": picture for name in names},
    }


def drawn(path, comparison, images=None):
    write_comparison_report(path, comparison=comparison, images=images or {})
    return path.read_text("utf-8")


def test_the_page_needs_nothing_and_shows_the_numbers(comparison, rows):
    source = (finished_comparison() / "out/report.html").read_text("utf-8")
    assert_needs_nothing(source)
    assert "script" not in Page(source).tags
    text = Page(source).text
    expected = [*comparison["verdict"], *comparison["warnings"], comparison["steps"]]
    expected += ["Networks learn from labels alone", comparison["interval_note"]]
    for row in rows.values():
        expected += [row["label"], f"{row['pixels_per_second']:,.0f}"]
        expected += [f"{100 * row[key]['mean']:.2f}" for key in ("oa", "aa", "kappa")]
        expected += [f"{100 * recall:.2f}" for recall in row["per_class_recall"].values()]
        if row["params"]:
            expected += [f"{int(row['params']):,}"]
    expected += [split["digest"] for split in comparison["splits"]]
    assert_all_shown([piece.replace("  ", " ") for piece in expected], text)


def test_what_is_missing_is_left_out_of_the_page(tmp_path, comparison):
    light = {
        **comparison,
        "scaling": None,
        "contenders": [{**row, "train_oa_curve": None} for row in comparison["contenders"][-2:]],
    }
    for missing in light:
        assert_sound(Page(drawn(tmp_path / "page.html", {**light, missing: None})))
    assert Page(drawn(tmp_path / "page.html", {})).headings == []


def test_contenders_may_lack_any_figure(tmp_path, comparison):
    (row,) = comparison["contenders"][-1:]
    for missing in row.keys() - {"name", "split"}:
        lacking = {**comparison, "scaling": None, "differences": None}
        lacking["contenders"] = [{**row, missing: None}]
        assert_sound(Page(drawn(tmp_path / "page.html", lacking)))


def test_a_contender_that_failed_has_its_reason_and_no_figures(tmp_path, comparison):
    failed = {
        "name": "x",
        "label": "X",
        "split": "random:0.2",
        "status": "failed",
        "reason": "diverged at step 3",
    }
    source = drawn(tmp_path / "page.html", {"contenders": [comparison["contenders"][0], failed]})
    row = re.search(r'<th scope="row">X</th>(.*?)\s*</tr>', source)
    assert re.fullmatch(r'<td class="note" colspan="\d+">failed: diverged at step 3</td>', row[1])


def test_labels_are_text_in_charts_too(tmp_path, comparison):
    label = "</text><script>1</script>$\\frac$" + "long " * 30
    contenders = [{**row, "label": label} for row in comparison["contenders"]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = drawn(tmp_path / "page.html", {**comparison, "contenders": contenders})
    assert [str(warning.message) for warning in caught] == []
    assert "script" not in Page(source).tags
    charts = "".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    assert Page(charts).text.count("</text><script>1</script>") > 3


def test_fitted_points_are_dashed_and_named(tmp_path, comparison):
    changed = copy.deepcopy(comparison)
    growth = changed["scaling"]["by_scene"]
    for number, row in enumerate(growth):
        row.update(measured=number < 2, predict_seconds=1.0 + number)
    fitted = drawn(tmp_path / "page.html", changed)
    assert "fitted, not measured" in Page(fitted).text
    assert "stroke-dasharray" in fitted
    for row in [*growth, *changed["scaling"]["by_patch"]]:
        row["measured"] = True
    measured = drawn(tmp_path / "page.html", changed)
    assert "fitted, not measured" not in Page(measured).text
    assert "stroke-dasharray" not in measured


def test_the_difference_map_says_which_is_which(tmp_path, comparison, rows, images):
    text = Page(drawn(tmp_path / "page.html", comparison, images)).text
    (row,) = comparison["differences"]
    a, b = (rows[row[side]]["label"] for side in "ab")
    assert f"Where a = {a} and b = {b} agree" in text
    assert_all_shown(list(DIFFERENCE_COLOURS), text)


def test_the_same_figures_give_the_same_bytes(tmp_path, comparison, images):
    before = json.dumps(comparison)
    first = drawn(tmp_path / "a.html", comparison, images)
    assert first == drawn(tmp_path / "b.html", comparison, images)
    assert json.dumps(comparison) == before


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
def test_the_page_opens_in_a_browser(tmp_path):
    path = finished_comparison() / "out/report.html"
    shown = opened_in_a_browser(path, tmp_path, "420,900")
    assert shown.count("<svg") == path.read_text("utf-8").count("<svg") > 0
