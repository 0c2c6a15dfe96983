"""Tables for papers: what is computed over seeds, and CSV, LaTeX and Markdown of odd names."""

from __future__ import annotations

import csv
import io
import json
import shutil
import statistics

import pytest
from cli_helpers import assert_refused, command, finished_comparison, hsifcn, small_scene

from hsifcn.evaluation.seeds import over_seeds, statistic
from hsifcn.report.paper_tables import PaperTable, as_csv, as_latex, as_markdown

ODD = "=corn_no-till & 50% {a|b}\n#1 \\ ~^<b>\x1b"


def record(oa, recall):
    row = {"recall": recall, "precision": None, "f1": 0.5, "iou": 0.25, "n_train": 3, "n_test": 9}
    return {"oa": oa, "aa": oa, "kappa": oa, "per_class": {ODD: row, "oak": row}}


def test_mean_and_sample_deviation():
    values = [0.91, 0.95, 0.99]
    found = statistic(values)
    assert found["mean"] == pytest.approx(statistics.mean(values))
    assert found["std"] == pytest.approx(statistics.stdev(values))
    assert statistic([None, 0.5]) == {"mean": 0.5, "std": None, "values": [None, 0.5]}
    assert statistic([None])["mean"] is None


@pytest.fixture(scope="module")
def tables():
    figures = over_seeds([record(0.9, 0.8), record(0.94, None)])
    return [PaperTable("random_0.1", "Split a_b; 40 % touch.", {"SVM & co": figures, "b": figures})]


def test_csv_holds_every_figure(tables):
    rows = list(csv.DictReader(io.StringIO(as_csv(tables))))
    assert len(rows) == 2 * (3 + 2 * 4)
    oa = next(row for row in rows if row["figure"] == "oa")
    assert (oa["model"], oa["class"], oa["n"], oa["values"]) == ("SVM & co", "", "2", "0.9 0.94")
    assert float(oa["std"]) == pytest.approx(statistics.stdev([0.9, 0.94]))
    recall = next(row for row in rows if row["figure"] == "recall")
    assert recall["class"].startswith("'=corn")
    assert "\x1b" not in recall["class"]
    assert (recall["mean"], recall["std"], recall["values"]) == ("0.8", "", "0.8")


def test_latex_is_escaped_and_of_even_rows(tables):
    text = as_latex(tables)
    for part in (r"\toprule", r"\bottomrule", r"$92.00 \pm 2.83$", r"corn\_no-till \& 50\%"):
        assert part in text
    assert r"\{a\textbar{}b\} \#1 \textbackslash{} \textasciitilde{}" in text
    rows = [line.replace(r"\&", "") for line in text.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {4}
    assert len(rows) == 1 + 2 + 3


def test_markdown_is_escaped_and_of_even_rows(tables):
    lines = as_markdown(tables).splitlines()
    rows = [line.replace(r"\|", "") for line in lines if line.startswith("|")]
    assert {row.count("|") for row in rows} == {6}
    assert any(r"corn\_no-till" in row and r"\<b\>" in row for row in rows)
    assert "92.00 ± 2.83" in rows[-1]


@pytest.mark.slow
def test_a_comparison_has_tables_of_what_is_done():
    folder = finished_comparison() / "out"
    rows = list(csv.DictReader((folder / "tables.csv").open(newline="")))
    found = json.loads((folder / "comparison.json").read_text("utf-8"))
    oa = {row["model"]: float(row["mean"]) for row in rows if row["figure"] == "oa"}
    assert oa == {row["label"]: row["oa"]["mean"] for row in found["contenders"]}
    assert "touch a training pixel" in (folder / "tables.tex").read_text("utf-8")
    assert (folder / "tables.md").exists()


@pytest.mark.slow
def test_seeds_are_runs_of_their_own_and_are_resumed(tmp_path):
    small_scene(tmp_path)
    words = ["train", "cube.npy", "-s", "random:0.2", "--steps", "4", "-o", "out", "-q"]
    done = hsifcn(tmp_path, *words, "--seeds", "2", "--seed", "3", "--json")
    assert done.code == 0, done.err
    found = done.json
    assert found == json.loads((tmp_path / "out/seeds.json").read_text("utf-8"))
    metrics = [
        json.loads((tmp_path / f"out/seed-{seed}/metrics.json").read_text("utf-8"))
        for seed in (3, 4)
    ]
    assert [row["seed"] for row in metrics] == [3, 4]
    assert metrics[0]["split"]["digest"] != metrics[1]["split"]["digest"]
    assert metrics[0]["command"].endswith("--seed 3 -o out/seed-3")
    assert found["oa"]["values"] == [row["oa"] for row in metrics]
    weights = tmp_path / "out/seed-3/model.safetensors"
    before = weights.stat().st_mtime_ns

    assert_refused(command(tmp_path, *words, "--seeds", "2"), "out exists", "--resume")
    shutil.rmtree(tmp_path / "out/seed-4")
    more = hsifcn(tmp_path, *words, "--seeds", "2", "--seed", "3", "--resume")
    assert more.code == 0, more.err
    assert weights.stat().st_mtime_ns == before
    assert (tmp_path / "out/seed-4/metrics.json").exists()
    assert "seeds 3 to 4" in more.out

    wrong = hsifcn(tmp_path, *words, "--seeds", "2", "-m", "nosuch", "--overwrite")
    assert_refused(wrong, "nosuch")
    run = command(tmp_path, *words, "--seeds", "2", "-o", "out/seed-3", "--resume")
    assert_refused(run, "no folder of seeds")
