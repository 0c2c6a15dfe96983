"""Both pages are drawn from one realistic sample each, then read back as a browser would."""

# ruff: noqa: RUF001  (minus and multiplication signs are what the pages print)

from __future__ import annotations

import base64
import copy
import io
import json
import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hsifcn.core import formats
from hsifcn.core.errors import FailedError
from hsifcn.core.scene import default_colours
from hsifcn.report import page, write_comparison_report, write_run_report
from hsifcn.report.quicklook import DIFFERENCE_COLOURS, SPLIT_COLOURS, label_image
from hsifcn.report.tables import Column, build_confusion, build_table

NAMES = ["Alfalfa", "Corn-notill", "Woods", "Oats <b>&amp;</b>", "</script><script>alert(1)"]


def sample_truth() -> np.ndarray:
    """Five fields of 8 rows with unlabelled ground between them."""
    truth = np.zeros((40, 30), np.uint8)
    for label in range(1, 6):
        truth[8 * label - 8 : 8 * label - 1, 2:-2] = label
    return truth


def sample_map(truth: np.ndarray, wrong: float, seed: int) -> np.ndarray:
    """Ground truth with a share of its labels replaced, and every pixel classified."""
    rng = np.random.default_rng(seed)
    n_classes = int(truth.max())
    mapped = np.where(truth == 0, rng.integers(1, n_classes + 1, truth.shape), truth)
    return np.where(
        rng.random(truth.shape) < wrong, rng.integers(1, n_classes + 1, truth.shape), mapped
    )


def sample_confusion(truth: np.ndarray, mapped: np.ndarray) -> np.ndarray:
    n_classes = int(truth.max())
    pairs = (truth[truth > 0].astype(int) - 1) * n_classes + mapped[truth > 0] - 1
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def sample_leakage(touching: float) -> dict[str, Any]:
    return {
        "test_touching": touching,
        "test_within": {"1": touching, "2": 0.861, "4": 0.974, "7": 0.9913, "16": 0.9987,
                        "receptive_field": 1.0},
        "test_in_shared_fields": 0.9876,
        "receptive_field_px": 141,
    }  # fmt: skip


def sample_metrics(truth: np.ndarray, mapped: np.ndarray, names: list[str]) -> dict[str, Any]:
    confusion = sample_confusion(truth, mapped)
    right, true, found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    per_class = {
        name: {
            "recall": right[i] / true[i],
            "precision": right[i] / found[i],
            "f1": 2 * right[i] / (true[i] + found[i]),
            "iou": right[i] / (true[i] + found[i] - right[i]),
            "n_train": max(3, int(true[i]) // 10),
            "n_test": int(true[i]),
        }
        for i, name in enumerate(names)
    }
    return {
        "scene": "indian_pines_corrected.mat",
        "command": "hsifcn train indian_pines_corrected.mat -s random:0.1 --seed 3",
        "model": "fcn1s", "params": 1234567, "flops_per_pixel": 309876.0, "seed": 3,
        "split": {"recipe": "random:0.1", "seed": 3, "digest": "5f0c1e77a9",
                  "n_train": 922, "n_validation": 103, "n_test": int(true.sum()),
                  "leakage": sample_leakage(0.6312)},
        "oa": float(right.sum() / true.sum()), "aa": float(np.mean(right / true)), "kappa": 0.98123,
        "per_class": per_class, "confusion": confusion.tolist(), "class_names": names,
        "colours": [list(colour) for colour in default_colours(len(names))],
        "train_seconds": 22.4321, "predict_seconds": 0.03412, "steps": 180,
        "peak_rss_bytes": 412_345_678, "baseline_rss_bytes": 198_765_432,
        "device": "cpu", "threads": 2,
        "versions": {"hsifcn": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6", "python": "3.11.2"},
    }  # fmt: skip


def sample_log() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "step": step,
            "loss": float(2.77 * np.exp(-step / 40) * rng.uniform(0.8, 1.2) + 0.01),
            "lr": 1e-3,
            "validation_oa": float(0.99 - 0.6 * np.exp(-step / 30)) if step % 15 == 0 else None,
            "seconds": 0.125 * step,
        }
        for step in range(1, 181)
    ]


CONTENDERS = [
    # name, label, kind, storage, share of wrong pixels, train s, predict s, train MB, predict MB
    ("svm", "Pixel SVM", "classical", "scene", 0.19, 3.21, 1.874, 61, 38),
    ("patch15", "Patch CNN 15 × 15", "patch", "materialised", 0.031, 214.6, 16.42, 3821, 2460),
    ("patch15-windowed", "Patch CNN, windowed", "patch", "windowed", 0.031, 231.9, 17.03, 702, 214),
    ("cast15", "Patch CNN, cast", "cast", "scene", 0.031, 214.6, 0.2874, 3821, 188),
    ("fcn8s", "FCN-8s", "fcn", "scene", 0.024, 12.81, 0.0213, 226, 97),
    ("fcn1s", "FCN-1s", "fcn", "scene", 0.009, 22.43, 0.0341, 287, 121),
]
RECIPES = {"random": "random:0.1", "checkerboard": "checkerboard:14:gap=3"}


def sample_contender(row: tuple[Any, ...], split: str, maps: dict[str, np.ndarray],
                     truth: np.ndarray, names: list[str]) -> dict[str, Any]:  # fmt: skip
    name, label, kind, storage, _, train, predict, train_mb, predict_mb = row
    confusion = sample_confusion(truth, maps[f"{split}/{name}"])
    recall = np.diag(confusion) / confusion.sum(1)
    oa = float(np.diag(confusion).sum() / confusion.sum())
    return {
        "name": name, "label": label, "kind": kind, "storage": storage, "split": split,
        "status": "done", "reason": None,
        "oa": {"mean": oa, "std": 0.00193, "values": [oa, oa + 0.001, oa - 0.001]},
        "aa": {"mean": float(recall.mean()), "std": 0.0045, "values": [0.9, 0.91, 0.92]},
        "kappa": {"mean": oa - 0.011, "std": 0.0022, "values": [0.9, 0.91, 0.92]},
        "params": None if kind == "classical" else 1_034_512, "train_seconds": train,
        "predict_seconds": predict, "pixels_per_second": truth.size / predict,
        "baseline_bytes": 190_000_000, "peak_train_bytes": 190_000_000 + train_mb * 1_000_000,
        "peak_predict_bytes": 190_000_000 + predict_mb * 1_000_000,
        "patch_store_bytes": 3_689_640_000 if storage == "materialised" else None,
        "flops_train_step": None if kind == "classical" else 19.53e9 * (1 + train / 100),
        "flops_predict": None if kind == "classical" else 6.512e9 * (1 + predict * 40),
        "per_class_recall": dict(zip(names, recall.tolist(), strict=True)),
        "confusion": confusion.tolist(),
        "train_oa_curve": None if kind == "classical" else
            [[train * s, float(oa - 0.5 * np.exp(-6 * s))] for s in np.linspace(0.1, 1, 10)],
    }  # fmt: skip


def sample_scaling() -> dict[str, Any]:
    by_patch: list[dict[str, Any]] = []
    by_scene: list[dict[str, Any]] = []
    for patch in (5, 9, 15, 21, 27):
        by_patch.append({
            "patch": patch, "contender": "patch15", "measured": patch <= 15,
            "train_seconds": 1.03 * patch**2, "predict_seconds": 0.073 * patch**2,
            "peak_train_bytes": int(2e8 + 1.7e7 * patch**2), "peak_predict_bytes": None,
            "patch_store_bytes": 10249 * patch**2 * 200 * 8,
            "oa": 0.93 + 0.0016 * patch if patch <= 15 else None, "aa": None,
        })  # fmt: skip
        by_patch.append({
            "patch": patch, "contender": "fcn1s", "measured": patch <= 21, "train_seconds": 22.43,
            "predict_seconds": 0.0341, "peak_train_bytes": 477_000_000, "peak_predict_bytes": None,
            "patch_store_bytes": None, "oa": 0.9912, "aa": 0.9871,
        })  # fmt: skip
    for side in (145, 290, 580, 1160, 2320):
        for name, rate in (("patch15", 1280.0), ("cast15", 73157.0), ("fcn1s", 616_000.0)):
            by_scene.append({
                "rows": side, "cols": side, "pixels": side**2, "contender": name,
                "measured": side <= 580 or name == "fcn1s", "predict_seconds": side**2 / rate,
                "peak_predict_bytes": int(2.2e8 + side**2 * (4500 if name == "fcn1s" else 36000)),
                "patch_store_bytes": side**2 * 360_000 if name == "patch15" else None,
            })  # fmt: skip
    return {"by_patch": by_patch, "by_scene": by_scene}


def sample_difference(
    a: str, b: str, split: str, difference: float, names: list[str]
) -> dict[str, Any]:
    return {
        "a": a, "b": b, "split": split, "oa_difference": difference,
        "interval": [difference - 0.0061, difference + 0.0059],
        "aa_difference": difference + 0.0077,
        "aa_interval": [difference - 0.0101, difference + 0.0243], "mcnemar_p": 0.0342,
        "per_class": {
            name: {"difference": 0.01234 * i - 0.02, "interval": [0.0123 * i - 0.05, 0.0311 * i]}
            for i, name in enumerate(names)
        },
    }  # fmt: skip


def sample_maps(truth: np.ndarray) -> dict[str, np.ndarray]:
    return {
        f"{split}/{row[0]}": sample_map(truth, row[4] * (1 + 4 * harder), 7 * number + harder)
        for harder, split in enumerate(RECIPES)
        for number, row in enumerate(CONTENDERS)
    }


def sample_comparison(
    truth: np.ndarray, maps: dict[str, np.ndarray], names: list[str]
) -> dict[str, Any]:
    contenders = [
        sample_contender(row, split, maps, truth, names) for split in RECIPES for row in CONTENDERS
    ]
    figures = [
        key for key in contenders[0] if key not in ("name", "label", "kind", "storage", "split")
    ]
    contenders.append({
        **dict.fromkeys(figures), "name": "rf", "label": "Random forest", "kind": "classical",
        "storage": "scene", "split": "random", "status": "skipped",
        "reason": "scikit-learn is not installed",
    })  # fmt: skip
    return {
        "scene": "indian_pines_corrected.mat",
        "command": "hsifcn compare-patch-vs-fcn --seeds 3 -o runs/comparison",
        "verdict": [
            "FCN-1s is more accurate than the patch CNN on both splits, by 2.2 points of OA.",
            "It trains 9.6 times as fast in 13 times less memory and predicts 482 times as fast.",
        ],
        "warnings": ["On random, 63.1 % of the test pixels touch a training pixel."],
        "colours": [list(colour) for colour in default_colours(len(names))],
        "class_names": names, "seeds": [0, 1, 2],
        "interval_note": "95 %, bootstrap over blocks of 8 × 8 pixels and seeds",
        "environment": {"machine": {"processor": "x86_64", "cores": 2,
                                    "memory_bytes": 8_233_000_000},
                        "versions": {"torch": "2.13.0", "numpy": "2.4.6"}, "threads": 2},
        "splits": [{"name": name, "recipe": recipe, "digest": f"{name}-5f0c", "n_train": 1024,
                    "n_test": 9225, "leakage": sample_leakage(0.6312 - 0.6 * number)}
                   for number, (name, recipe) in enumerate(RECIPES.items())],
        "contenders": contenders,
        "equivalence": {"max_abs_logit_difference": 3.147e-06, "labels_equal": 21024,
                        "n_pixels": 21025, "speedup": 57.13, "flops_ratio": 96.8},
        "patch_store": {"n_patches": 10249, "patch": 15, "bands": 200, "bytes_per_value": 8,
                        "measured_bytes": 3_712_345_678},
        "differences": [sample_difference("fcn1s", "patch15", "random", 0.0221, names),
                        sample_difference("fcn8s", "patch15", "random", 0.0034, names),
                        sample_difference("fcn1s", "patch15", "checkerboard", -0.0123, names)],
        "scaling": sample_scaling(),
    }  # fmt: skip


def sample_images(
    truth: np.ndarray, maps: dict[str, np.ndarray], colours: Any
) -> dict[str, np.ndarray]:
    """Images of a comparison; those of a run are among them."""
    rng = np.random.default_rng(1)
    images = {
        "quicklook": rng.integers(0, 256, (*truth.shape, 3)).astype(np.uint8),
        "truth": label_image(truth, colours),
        "map": label_image(maps["random/fcn1s"], colours),
        "split": label_image(
            np.where(truth, rng.integers(1, 4, truth.shape), 0), list(SPLIT_COLOURS.values())
        ),
    }
    for name, mapped in maps.items():
        images[f"map/{name}"] = label_image(mapped, colours)
    for split in RECIPES:
        a, b = maps[f"{split}/fcn1s"] == truth, maps[f"{split}/patch15"] == truth
        code = np.select([a & b, a, b], [1, 2, 3], 4) * (truth > 0)
        images[f"difference/{split}"] = label_image(code, list(DIFFERENCE_COLOURS.values()))
    return images


class Page(HTMLParser):
    """What a reader, and what a browser, gets from a page."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.headings: list[str] = []
        self.levels: list[str] = []
        self.after_heading: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("h2", "h3"):
            self.headings.append("")
            self.levels.append(tag)
            self.after_heading.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if self.headings and self.open:
            target = self.headings if self.open[-1] in ("h2", "h3") else self.after_heading
            target[-1] += data.strip()


TRUTH = sample_truth()
MAPS = sample_maps(TRUTH)
METRICS = sample_metrics(TRUTH, MAPS["random/fcn1s"], NAMES)
COMPARISON = sample_comparison(TRUTH, MAPS, NAMES)
IMAGES = sample_images(TRUTH, MAPS, COMPARISON["colours"])


def run_page(
    path: Path, metrics: dict[str, Any] = METRICS, images: Any = IMAGES, log: Any = None
) -> str:
    write_run_report(path, metrics=metrics, log=log or sample_log(), images=images)
    return path.read_text("utf-8")


def comparison_page(
    path: Path, comparison: dict[str, Any] = COMPARISON, images: Any = IMAGES
) -> str:
    write_comparison_report(path, comparison=comparison, images=images)
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    run_page(folder / "run.html")
    comparison_page(folder / "comparison.html")
    return {"run": folder / "run.html", "comparison": folder / "comparison.html"}


def assert_all_shown(expected: list[str], text: str) -> None:
    assert [piece for piece in expected if piece not in text] == []


def test_run_page_shows_its_numbers(pages: dict[str, Path]) -> None:
    text = Page(pages["run"].read_text("utf-8")).text
    expected = [f"{100 * METRICS[key]:.2f} %" for key in ("oa", "aa", "kappa")]
    expected += ["fcn1s, 1,234,567 parameters, 310 kFLOP a pixel, receptive field 141 px"]
    expected += ["random:0.1, seed 3, 922 training pixels, 103 validation pixels"]
    expected += ["22.4 s, 180 steps, seed 3", "34.1 ms", "412 MB, 199 MB of it before"]
    expected += ["63.1 %", "86.1 %", "97.4 %", "99.1 %", "99.9 %", "100.0 %", "98.8 %"]
    expected += [
        "5f0c1e77a9",
        "torch 2.13.0",
        "python 3.11.2",
        METRICS["command"],
        METRICS["scene"],
    ]
    for figures in METRICS["per_class"].values():
        expected += [f"{100 * figures[key]:.2f}" for key in ("recall", "precision", "f1", "iou")]
        expected += [str(figures["n_train"]), str(figures["n_test"])]
    expected += [str(count) for row in METRICS["confusion"] for count in row if count]
    assert_all_shown(expected, text)


@pytest.mark.parametrize("learnt", [False, True])
def test_run_page_says_whether_the_last_steps_learnt_the_validation_pixels(
    tmp_path: Path, learnt: bool
) -> None:
    log = [row for row in sample_log() if row["validation_oa"] is not None]
    if learnt:
        log[-1]["validation_oa"] = None
    text = Page(run_page(tmp_path / "run.html", log=log)).text
    assert ("The last steps learnt the validation pixels too." in text) == learnt


def test_comparison_page_shows_its_numbers(pages: dict[str, Path]) -> None:
    text = Page(pages["comparison"].read_text("utf-8")).text
    expected = [*COMPARISON["verdict"], *COMPARISON["warnings"], COMPARISON["command"]]
    for row in COMPARISON["contenders"]:
        expected.append(row["label"])
        if row["status"] == "done":
            expected += [
                f"{100 * row[key]['mean']:.2f} ± {100 * row[key]['std']:.2f}"
                for key in ("oa", "aa", "kappa")
            ]
            expected += [f"{row['pixels_per_second']:,.0f}"]
            expected += [f"{100 * recall:.2f}" for recall in row["per_class_recall"].values()]
    expected += ["1,034,512", "3.21", "215", "16.4", "0.0341", "3,820", "2,460", "61.0", "3,690"]
    expected += ["skipped: scikit-learn is not installed", "1,024 training and 9,225 test pixels"]
    expected += ["Of the test pixels 63.1 % touch", "97.4 % lie within 4 px", "random-5f0c"]
    expected += ["3.15 × 10⁻⁶", "21,024 of 21,025 pixels", "57.1 times as fast", "96.8 times fewer"]
    expected += ["10,249 × 15 × 15 × 200 × 8 = 3.69 GB; measured: 3.71 GB"]
    expected += [
        "+2.21",
        "+1.60 to +2.80",
        "−1.23",
        "−1.84 to −0.64",
        "+2.98",
        "+1.20 to +4.64",
        "0.034",
    ]
    expected += [
        "assumes independent pixels",
        "95 %, bootstrap over blocks",
        "2 of the 3 intervals",
    ]
    expected += ["processor x86_64, cores 2, memory 8.23 GB", "torch 2.13.0", "seeds 0, 1, 2"]
    expected += ["5,382,400", "fitted", "measured", "7,230"]
    assert_all_shown(expected, text)


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_page_needs_nothing_from_elsewhere(pages: dict[str, Path], name: str) -> None:
    source = pages[name].read_text("utf-8")
    read = Page(source)
    for tag, attribute, value in read.attributes:
        if attribute in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert value.startswith(("data:", "#")), (tag, attribute, value[:80])
    assert not {"script", "iframe", "object", "embed"} & set(read.tags)
    assert "http:" not in source
    assert "https:" not in source
    assert "@import" not in source
    assert re.findall(r"url\((?!#)", source) == []
    assert (
        "meta",
        "content",
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    ) in read.attributes


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_names_are_text_and_ids_are_unique(pages: dict[str, Path], name: str) -> None:
    read = Page(pages[name].read_text("utf-8"))
    assert_all_shown(NAMES, read.text)
    assert "b" not in read.tags
    ids = [value for _, attribute, value in read.attributes if attribute == "id"]
    assert len(ids) == len(set(ids)) > 0


def test_labels_in_charts_are_text(tmp_path: Path) -> None:
    comparison = copy.deepcopy(COMPARISON)
    label = "</text><script>1</script>$\\frac$"
    for row in comparison["contenders"]:
        row["label"] = label
    source = comparison_page(tmp_path / "page.html", comparison)
    assert "script" not in Page(source).tags
    charts = "".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    assert Page(charts).text.count(label) > 10


def test_long_labels_leave_room_in_charts(tmp_path: Path) -> None:
    contenders = [{**row, "label": "long " * 30} for row in COMPARISON["contenders"]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = comparison_page(tmp_path / "page.html", {**COMPARISON, "contenders": contenders})
    assert [str(warning.message) for warning in caught] == []
    assert "<svg" in source


SECTIONS = {
    "run": {
        "per_class": "Classes", "confusion": "Confusion matrix",
    },
    "comparison": {
        "contenders": "Results", "differences": "Differences", "scaling": "With the patch",
        "equivalence": "The patch network in one pass",
    },
}  # fmt: skip


@pytest.mark.parametrize("missing", sorted(METRICS))
def test_run_page_leaves_out_what_is_missing(tmp_path: Path, missing: str) -> None:
    for metrics in ({**METRICS, missing: None}, {k: v for k, v in METRICS.items() if k != missing}):
        write_run_report(tmp_path / "page.html", metrics=metrics, log=[], images=IMAGES)
        read = Page((tmp_path / "page.html").read_text("utf-8"))
        assert SECTIONS["run"].get(missing) not in read.headings
        assert_sound(read)


# Few charts, for the tests that draw the page many times.
LIGHT = {
    **COMPARISON,
    "scaling": {"by_patch": [{"patch": 15, "contender": "svm", "measured": True, "oa": 0.9}]},
    "contenders": [{**row, "train_oa_curve": None} for row in COMPARISON["contenders"][4:8]],
}


@pytest.mark.parametrize("missing", sorted(COMPARISON))
def test_comparison_page_leaves_out_what_is_missing(tmp_path: Path, missing: str) -> None:
    read = Page(comparison_page(tmp_path / "page.html", {**LIGHT, missing: None}, {}))
    assert SECTIONS["comparison"].get(missing) not in read.headings
    assert_sound(read)


@pytest.mark.parametrize("missing", sorted(LIGHT["contenders"][0].keys() - {"name", "split"}))
def test_contenders_may_lack_any_figure(tmp_path: Path, missing: str) -> None:
    contenders = [{**row, missing: None} for row in LIGHT["contenders"]]
    if missing == "status":
        contenders = [{k: v for k, v in row.items() if k != "status"} for row in contenders]
    comparison = {**LIGHT, "contenders": contenders, "scaling": None, "differences": None}
    assert_sound(Page(comparison_page(tmp_path / "page.html", comparison, {})))


def assert_sound(read: Page) -> None:
    assert all(read.headings)
    for number, after in enumerate(read.after_heading):
        parts_follow = read.levels[number : number + 2] == ["h2", "h3"]
        assert after or parts_follow, read.headings[number]
    for word in ("None", "nan", "Undefined", "inf "):
        assert not re.search(rf"\b{word}\b", read.text), word


def test_empty_dicts_give_a_page_without_sections(tmp_path: Path) -> None:
    write_run_report(tmp_path / "run.html", metrics={}, log=[], images={})
    write_comparison_report(tmp_path / "comparison.html", comparison={}, images={})
    for name in ("run", "comparison"):
        assert Page((tmp_path / f"{name}.html").read_text("utf-8")).headings == []


def test_nan_is_printed_as_a_dash(tmp_path: Path) -> None:
    metrics = copy.deepcopy(METRICS)
    metrics["per_class"]["Woods"]["precision"] = float("nan")
    metrics["kappa"] = float("nan")
    assert_sound(Page(run_page(tmp_path / "page.html", metrics)))


def test_failed_contender_has_its_reason_and_no_figures(tmp_path: Path) -> None:
    failed = {
        "name": "x",
        "label": "X",
        "split": "random",
        "status": "failed",
        "reason": "diverged at step 3",
    }
    source = comparison_page(
        tmp_path / "page.html", {"contenders": [COMPARISON["contenders"][0], failed]}
    )
    row = re.search(r'<th scope="row">X</th>(.*?)\s*</tr>', source)
    assert row is not None
    assert re.fullmatch(r'<td class="note" colspan="\d+">failed: diverged at step 3</td>', row[1])


@pytest.mark.parametrize(
    ("touching", "within_4", "warned"),
    [(0.05, 0.2, False), (0.051, 0.0, True), (0.0, 0.201, True), (None, None, False)],
)
def test_leaked_neighbours_are_warned_of(
    tmp_path: Path, touching: Any, within_4: Any, warned: bool
) -> None:
    metrics = copy.deepcopy(METRICS)
    metrics["split"]["leakage"] = {"test_touching": touching, "test_within": {4: within_4}}
    read = Page(run_page(tmp_path / "page.html", metrics))
    assert ("This accuracy rests on neighbours" in read.text) is warned


def test_fitted_points_are_dashed_and_named(tmp_path: Path) -> None:
    comparison = copy.deepcopy(COMPARISON)
    fitted = comparison_page(tmp_path / "page.html", comparison)
    assert "fitted, not measured" in Page(fitted).text
    for rows in comparison["scaling"].values():
        for row in rows:
            row["measured"] = True
    measured = comparison_page(tmp_path / "page.html", comparison)
    assert "fitted, not measured" not in Page(measured).text
    assert "stroke-dasharray" in fitted
    assert "stroke-dasharray" not in measured


def test_difference_map_says_which_is_which(pages: dict[str, Path]) -> None:
    text = Page(pages["comparison"].read_text("utf-8")).text
    assert "Where a = FCN-1s and b = Patch CNN 15 × 15 agree" in text
    assert_all_shown(list(DIFFERENCE_COLOURS), text)


def test_images_survive_and_large_ones_are_thinned() -> None:
    image = np.random.default_rng(0).integers(0, 256, (17, 50, 3)).astype(np.uint8)
    shown = page.picture(image, "map")
    np.testing.assert_array_equal(decode(shown.source), image)
    assert shown.wide
    large = np.zeros((2500, 1000, 3), np.uint8)
    large[::3, ::3] = 200
    thinned = page.picture(large, "map")
    assert (decode(thinned.source) == 200).all()
    assert decode(thinned.source).shape == (834, 334, 3)
    assert "one row and column in 3" in thinned.caption


def decode(source: str) -> np.ndarray:
    head, _, body = source.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


def test_same_data_give_the_same_bytes_and_stay_untouched(tmp_path: Path) -> None:
    before = json.dumps(COMPARISON)
    assert comparison_page(tmp_path / "a.html") == comparison_page(tmp_path / "b.html")
    assert json.dumps(COMPARISON) == before


def test_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page.os, "fsync", full)
    with pytest.raises(FailedError, match=r"report\.html could not be written: No space left"):
        run_page(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_missing_directory_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="could not be written"):
        run_page(tmp_path / "missing" / "report.html")


def test_names_that_are_no_utf8_are_shown_escaped(tmp_path: Path) -> None:
    source = run_page(tmp_path / "page.html", {**METRICS, "scene": "scene\udcff.mat"})
    assert "scene\\udcff.mat" in source


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (formats.percent, 0.98917, "98.92"),
        (formats.percent, None, "–"),
        (formats.percent, "0.5", "–"),
        (formats.percent, True, "–"),
        (formats.points, 0.01237, "+1.24"),
        (formats.points, -0.01237, "−1.24"),
        (formats.mean_sd, {"mean": 0.98, "std": 0.0, "values": [0.98]}, "98.00"),
        (formats.mean_sd, {"mean": 0.98, "std": 0.002, "values": [0.978, 0.982]}, "98.00 ± 0.20"),
        (formats.interval, [-0.001, 0.013], "−0.10 to +1.30"),
        (formats.interval, None, "–"),
        (formats.p_value, 0.0342, "0.034"),
        (formats.p_value, 3e-9, "< 0.001"),
        (formats.significant, 9.999, "10.0"),
        (formats.significant, 1234567, "1,230,000"),
        (formats.significant, 0.000123, "0.000123"),
        (formats.significant, 3.147e-6, "3.15 × 10⁻⁶"),
        (formats.significant, 0.0, "0"),
        (formats.seconds, 0.0341, "34.1 ms"),
        (formats.seconds, 458, "7 min 38 s"),
        (formats.seconds, 8400, "2 h 20 min"),
        (formats.seconds, 119.99, "120 s"),
        (formats.seconds, 3599.7, "1 h 00 min"),
        (formats.size, 999, "999 bytes"),
        (formats.size, 412_345_678, "412 MB"),
        (formats.size, 3.6e9, "3.60 GB"),
        (formats.operations, 309_876.0, "310 kFLOP"),
        (formats.megabytes, 61e6, "61.0"),
        (formats.giga, 6.512e9, "6.51"),
    ],
)
def test_numbers_are_printed(function: Any, value: Any, text: str) -> None:
    assert function(value).replace("\u00a0", " ") == text


@settings(deadline=None)
@given(st.floats(1e-4, 1e15))
def test_three_digits_are_kept(value: float) -> None:
    printed = float(formats.significant(value).replace(",", ""))
    assert printed == pytest.approx(value, rel=0.0051)


def test_columns_line_up_at_the_point() -> None:
    rows = [{"v": text} for text in ("1,204", "12.5", "0.034", "–")]
    columns = [Column("n", lambda row: "x", numeric=False), Column("v", lambda row: row["v"])]
    table = build_table([*columns, Column("empty", lambda row: "–")], [("", rows)])
    assert table is not None
    assert [column.title for column in table.columns] == ["n", "v"]
    cells = [line.cells[1] for line in table.groups[0][1]]
    assert [len(cell) - re.search(r"[.\u2008]", cell).start() for cell in cells[:3]] == [4, 4, 4]
    assert cells[3] == "–"


def test_confusion_of_many_classes_has_shades_only() -> None:
    names = [f"class {i}" for i in range(21)]
    matrix = build_confusion((2 * np.eye(21, dtype=int)).tolist(), names)
    assert matrix is not None
    assert {cell.text for _, _, cells in matrix.rows for cell in cells} == {""}
    assert matrix.rows[3][2][3].title == "class 3 mapped as class 3: 2 of 2 pixels, 100.0 %"


def test_confusion_of_a_class_without_test_pixels() -> None:
    matrix = build_confusion([[0, 0], [1, 3]], ["a", "b"])
    assert matrix is not None
    assert [cell.background for cell in matrix.rows[0][2]] == ["rgb(255,255,255)"] * 2
    assert [cell.text for cell in matrix.rows[1][2]] == ["1", "3"]


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--virtual-time-budget=2000",
]  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_page_opens_in_a_browser(pages: dict[str, Path], tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path}", "--window-size=420,900",
         "--dump-dom", pages[name].as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ":CONSOLE" not in done.stderr
    assert done.stdout.count("<svg") == pages[name].read_text("utf-8").count("<svg") > 0
    assert "</main>" in done.stdout


def test_a_run_page_tells_how_sure_the_map_is(tmp_path: Path) -> None:
    rows = [
        {"coverage": share, "threshold": 1 - share, "accuracy": 1 - share / 10}
        for share in (0.5, 0.9, 1.0)
    ]
    calibration = {
        "temperature": 0.55, "expected_calibration_error": 0.0123, "coverage": rows,
    }  # fmt: skip
    html = run_page(tmp_path / "page.html", METRICS | {"calibration": calibration})
    text = Page(html).text
    assert_all_shown(
        ["How sure the map is", "1.2 %", "0.55", "--reject 0.099999 leaves", "91.0 %"], text
    )
    assert "How sure the map is" not in Page(run_page(tmp_path / "other.html")).text
    for threshold, shown in ((0.9987, "0.9987"), (0.9999896, "0.999989"), (1.0, "1"), (0.3, "0.3")):
        kept = [{"coverage": share, "threshold": threshold, "accuracy": 1.0} for share in (0.9, 1)]
        html = run_page(
            tmp_path / f"{shown}.html", METRICS | {"calibration": calibration | {"coverage": kept}}
        )
        assert f"--reject {shown} leaves" in Page(html).text
