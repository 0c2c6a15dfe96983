from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hsifcn.core.errors import LabelError, Notice, SplitError
from hsifcn.core.scene import LabelMap, default_class_names, default_colours
from hsifcn.data.indian_pines import bundled_file
from hsifcn.data.splits import (
    DEFAULT_VALIDATION,
    Split,
    fields,
    leakage_sentence,
    make_split,
    make_splits,
    parse_split,
    write_split,
)

Labels = npt.NDArray[np.uint8]

GAPPED = ("blocks:3:gap=1:train=0.3", "checkerboard:5:gap=2", "fields:0.4:gap=1")
ALL_SPECS = ("random:0.2", "per-class:4", *GAPPED, "blocks:2:gap=0", "fields:0.2:gap=2:val=0.3")


@st.composite
def label_maps(draw: st.DrawFn) -> Labels:
    """Maps of up to 24 x 24 px made of cells of one label, as fields are."""
    shape = draw(st.tuples(st.integers(1, 8), st.integers(2, 8)))
    cells = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 3)))
    cell_rows, cell_cols = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return cells.repeat(cell_rows, axis=0).repeat(cell_cols, axis=1)


def split_or_reject(labels: Labels, spec: str, seed: int) -> Split:
    """Maps that a recipe cannot divide are no examples; `test_impossible_*` has those."""
    try:
        return make_split(labels, spec, seed=seed)
    except SplitError:
        assume(False)
        raise


def indian_pines() -> Labels:
    labels: Labels = scipy.io.loadmat(bundled_file("indian_pines_gt.mat"))["indian_pines_gt"]
    return labels


def flood_fill(labels: Labels) -> list[set[tuple[int, int]]]:
    left = {(int(r), int(c)) for r, c in np.argwhere(labels)}
    found = []
    while left:
        start = left.pop()
        field, front = {start}, [start]
        while front:
            row, col = front.pop()
            for near in ((row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                if near in left and labels[near] == labels[start]:
                    left.remove(near)
                    field.add(near)
                    front.append(near)
        found.append(field)
    return found


def nearest(place: npt.NDArray[Any], others: npt.NDArray[Any]) -> int:
    return int(np.abs(others - place).max(axis=1).min())


# --- specifications -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("random:0.1", "random:0.1"),
        ("random:.10:val=0.05", "random:0.1"),
        ("random:0.1:val=0", "random:0.1:val=0.0"),
        ("per-class:50:val=0.2", "per-class:50:val=0.2"),
        ("blocks:16", "blocks:16:gap=3:train=0.2"),
        ("blocks:16:train=0.3:gap=4", "blocks:16:gap=4:train=0.3"),
        ("checkerboard:14:gap=3", "checkerboard:14:gap=3"),
        ("fields:0.2", "fields:0.2:gap=2"),
        ("features:.3", "features:0.3"),
        ("scenes:0.5:val=0", "scenes:0.5:val=0.0"),
        ("all", "all"),
        ("random:1:val=0.2", "all:val=0.2"),
        ("runs/a/split.npz", "runs/a/split.npz"),
        ("C:/a b/split.npz:val=0.2", "C:/a b/split.npz:val=0.2"),
        ("fixed:a.mat:train,C:/b.mat:test:val=0.2", "fixed:a.mat:train,C:/b.mat:test:val=0.2"),
    ],
)
def test_specifications_have_one_canonical_text(spec: str, canonical: str) -> None:
    recipe = parse_split(spec)
    assert str(recipe) == canonical
    assert parse_split(canonical) == recipe


def test_a_recipe_tells_its_parameters() -> None:
    fixed = parse_split("fixed:a.mat:train,b.npy:val=0.3")
    assert (fixed.train_path, fixed.test_path, fixed.val) == ("a.mat:train", "b.npy", 0.3)
    blocks = parse_split("blocks:16:gap=4:train=0.3:val=0.2")
    assert (blocks.size, blocks.gap, blocks.train, blocks.val) == (16, 4, 0.3, 0.2)
    assert parse_split("per-class:7").count == 7
    assert parse_split("random:0.3").val == DEFAULT_VALIDATION


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "random",
        "random:",
        "random:1:gap=2",
        "random:0",
        "random:nan",
        "random:-0.1",
        "random:0.1:gap=3",
        "random:0.1:0.2",
        "random:0.1:val=1",
        "random:0.1:val=0.1:val=0.2",
        "per-class:2.5",
        "per-class:0",
        "blocks:0",
        "blocks:16:gap=-1",
        "blocks:16:train=1.5",
        "checkerboard:6:gap=3",
        "checkerboard:14:train=0.2",
        "stratified:0.1",
        "features:1",
        "features:0.3:gap=2",
        "scenes:0",
        "all:0.1",
        "all:val=1",
        "no.npz/such",
        "fixed:a.npy",
        "fixed:a.npy,b.npy,c.npy",
        "fixed:a.npy,",
        "fixed:a.npy,b.npy:val=2",
        "dase:",
        "mambahsi:val=0.1",
    ],
)
def test_bad_specifications_are_refused(spec: str) -> None:
    with pytest.raises(SplitError, match=r"0\.1"):
        parse_split(spec)


# --- what holds for every recipe --------------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=60)
@given(label_maps(), st.sampled_from(ALL_SPECS), st.integers(0, 3))
def test_masks_are_disjoint_parts_of_the_labels(labels: Labels, spec: str, seed: int) -> None:
    split = split_or_reject(labels, spec, seed)
    used = split.train.astype(int) + split.validation + split.test
    assert used.max() == 1
    assert not used[labels == 0].any()
    assert np.array_equal(split.labels, labels)
    assert split.labels.dtype == np.uint16
    assert (split.n_train, split.n_validation, split.n_test) == (
        split.train.sum(),
        split.validation.sum(),
        split.test.sum(),
    )
    again = make_split(labels, spec, seed=seed)
    assert again.digest == split.digest
    for name in ("train", "validation", "test"):
        assert np.array_equal(getattr(again, name), getattr(split, name))


@settings(deadline=None, derandomize=True, max_examples=80)
@given(label_maps(), st.sampled_from(GAPPED), st.integers(0, 3))
def test_the_gap_holds(labels: Labels, spec: str, seed: int) -> None:
    split = split_or_reject(labels, spec, seed)
    seen = np.argwhere(split.train | split.validation)
    gap = parse_split(spec).gap
    assert all(nearest(place, seen) > gap for place in np.argwhere(split.test))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(label_maps(), st.sampled_from(ALL_SPECS), st.integers(0, 3))
def test_validation_is_a_share_of_the_training_pixels(labels: Labels, spec: str, seed: int) -> None:
    split = split_or_reject(labels, spec, seed)
    share = parse_split(spec).val
    for label in np.unique(labels[labels > 0]):
        n_validation = int((labels[split.validation] == label).sum())
        n = n_validation + int((labels[split.train] == label).sum())
        assert n_validation == (max(1, round(share * n)) if n >= 10 else 0)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(label_maps(), st.sampled_from(ALL_SPECS), st.integers(0, 3), st.sampled_from([None, 3, 6]))
def test_leakage_is_that_of_brute_force(
    labels: Labels, spec: str, seed: int, receptive_field: int | None
) -> None:
    split = split_or_reject(labels, spec, seed)
    leakage = split.leakage(receptive_field)

    seen, tested = np.argwhere(split.train | split.validation), np.argwhere(split.test)
    distances = np.array([nearest(place, seen) for place in tested])
    reaches = {"1": 1, "2": 2, "4": 4, "7": 7, "16": 16}
    if receptive_field is not None:
        reaches["receptive_field"] = {3: 1, 6: 2}[receptive_field]
    trained_fields = [field for field in flood_fill(labels) if field & set(map(tuple, seen))]
    shared = [any(tuple(place) in field for field in trained_fields) for place in tested]

    assert set(leakage) == {
        "test_touching",
        "test_within",
        "test_in_shared_fields",
        "receptive_field_px",
    }
    assert leakage["test_touching"] == np.mean(distances <= 1)
    assert leakage["test_within"] == {
        key: np.mean(distances <= reach) for key, reach in reaches.items()
    }
    assert leakage["test_in_shared_fields"] == np.mean(shared)
    assert leakage["receptive_field_px"] == receptive_field


@settings(deadline=None, derandomize=True, max_examples=60)
@given(label_maps())
def test_fields_are_those_of_a_flood_fill(labels: Labels) -> None:
    numbers = fields(labels)
    assert numbers.dtype == np.int32
    assert np.array_equal(numbers > 0, labels > 0)
    assert np.array_equal(np.unique(numbers[numbers > 0]), np.arange(1, numbers.max() + 1))
    expected = {frozenset(field) for field in flood_fill(labels)}
    found = {
        frozenset((int(r), int(c)) for r, c in np.argwhere(numbers == number))
        for number in range(1, numbers.max() + 1)
    }
    assert found == expected


# --- each recipe ------------------------------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=60)
@given(label_maps(), st.sampled_from([0.05, 0.3, 0.9]), st.integers(0, 3))
def test_random_takes_a_fraction_of_each_class(labels: Labels, share: float, seed: int) -> None:
    split = split_or_reject(labels, f"random:{share}", seed)
    assert np.array_equal(split.train | split.validation | split.test, labels > 0)
    for label in np.unique(labels[labels > 0]):
        n, n_test = int((labels == label).sum()), int((labels[split.test] == label).sum())
        assert n - n_test == max(1, min(n - 1, max(3, round(share * n))))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(label_maps(), st.integers(1, 20), st.integers(0, 3))
def test_per_class_takes_at_most_half_a_class(labels: Labels, count: int, seed: int) -> None:
    split = split_or_reject(labels, f"per-class:{count}", seed)
    assert np.array_equal(split.train | split.validation | split.test, labels > 0)
    for label in np.unique(labels[labels > 0]):
        n, n_test = int((labels == label).sum()), int((labels[split.test] == label).sum())
        assert n - n_test == max(1, min(count, n // 2))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(label_maps(), st.sampled_from(["random:0.3", "per-class:6"]), st.data())
def test_no_class_affects_the_draw_of_another(labels: Labels, spec: str, data: Any) -> None:
    kept = data.draw(st.integers(1, 3))
    others = data.draw(hnp.arrays(np.uint8, labels.shape, elements=st.sampled_from([0, 4, 5])))
    changed = np.where(labels == kept, labels, others)
    before, after = split_or_reject(labels, spec, 0), split_or_reject(changed, spec, 0)
    for name in ("train", "validation", "test"):
        old, new = getattr(before, name), getattr(after, name)
        assert np.array_equal(old & (labels == kept), new & (changed == kept))


def test_classes_of_equal_size_are_drawn_independently() -> None:
    labels = np.array([1, 2], np.uint8).repeat(300).reshape(2, 300)
    split = make_split(labels, "random:0.5:val=0")
    assert not np.array_equal(split.train[0], split.train[1])


def test_seeds_give_different_splits() -> None:
    labels = indian_pines()
    for spec in ("random:0.1", "per-class:50", "blocks:16", "checkerboard:14", "fields:0.2"):
        assert len({make_split(labels, spec, seed=seed).digest for seed in range(4)}) == 4


@settings(deadline=None, derandomize=True, max_examples=40)
@given(label_maps(), st.integers(0, 3))
def test_blocks_are_whole(labels: Labels, seed: int) -> None:
    split = split_or_reject(labels, "blocks:3:gap=1:train=0.3", seed)
    seen = split.train | split.validation
    for row in range(0, labels.shape[0], 3):
        for col in range(0, labels.shape[1], 3):
            block = slice(row, row + 3), slice(col, col + 3)
            labelled = labels[block] > 0
            assert not seen[block].any() or np.array_equal(seen[block], labelled)


def test_blocks_train_about_their_share_and_lose_few_classes() -> None:
    labels = indian_pines()
    for seed in range(4):
        split = make_split(labels, "blocks:16:gap=3:train=0.2", seed=seed)
        share = (split.n_train + split.n_validation) / (labels > 0).sum()
        assert share == pytest.approx(0.2, abs=0.01)
        assert len(split.warnings) <= 3


def test_the_checkerboard_is_one() -> None:
    labels = np.ones((40, 40), np.uint8)
    split = make_split(labels, "checkerboard:8:gap=2", seed=3)
    seen = split.train | split.validation
    rows, cols = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    row = {int(r) % 8 for r in rows}
    col = {int(c) % 8 for c in cols}
    assert len(row) == len(col) == 4
    # Shrunk by 2 on both sides, training blocks are 4 x 4; half of all pixels test.
    sums = np.unique(fields(seen.astype(np.uint8)), return_counts=True)[1][1:]
    assert max(sums) == 16
    assert split.n_test == pytest.approx(800, abs=80)
    assert not (split.test & seen).any()


def test_the_checkerboard_of_indian_pines_keeps_every_class() -> None:
    labels = indian_pines()
    split = make_split(labels, "checkerboard:14:gap=3")
    assert (split.n_train + split.n_validation, split.n_test) == (1608, 5191)
    assert split.warnings == ()
    assert split.leakage()["test_within"]["4"] == pytest.approx(0.2258, abs=1e-4)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(label_maps(), st.integers(0, 3))
def test_fields_are_never_divided_where_a_class_has_several(labels: Labels, seed: int) -> None:
    split = split_or_reject(labels, "fields:0.4:gap=0", seed)
    all_fields = flood_fill(labels)
    seen, tested = ({tuple(p) for p in np.argwhere(m)} for m in (~split.test, split.test))
    for label in np.unique(labels[labels > 0]):
        own = [field for field in all_fields if labels[next(iter(field))] == label]
        if len(own) > 1:
            assert all(field <= seen or field <= tested for field in own)
            assert any(field <= tested for field in own)
            assert any(field <= seen for field in own)


def test_fields_train_about_their_share() -> None:
    labels = np.zeros((41, 41), np.uint8)
    labels[::4, ::4] = 1  # 121 fields of one pixel
    split = make_split(labels, "fields:0.2:gap=0")
    assert split.n_train + split.n_validation == 24


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 135])
def test_the_only_field_of_a_class_is_cut_across(angle: int) -> None:
    rows, cols = np.indices((60, 60)) - 30
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = rows * cosine + cols * sine, cols * cosine - rows * sine
    labels = ((abs(along) < 25) & (abs(across) < 3)).astype(np.uint8)
    sides = set()
    for seed in range(6):
        split = make_split(labels, "fields:0.2:gap=2", seed=seed)
        seen = split.train | split.validation
        assert seen.sum() == round(0.2 * labels.sum())
        # A cut along the strip would leave no pixel beyond the gap.
        assert split.n_test > 0.65 * labels.sum()
        sign = np.sign(along[seen].mean())
        assert (sign * along[seen]).min() > (sign * along[split.test]).max()
        sides.add(sign)
    assert sides == {-1, 1}


def test_fixed_takes_the_labels_of_the_files() -> None:
    scene = np.full((4, 6), 9)
    train, test = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    train[0], test[2:] = 1, 2
    train[1, 0] = 2
    split = make_split(scene, "fixed:a.npy,b.npy", fixed=(train, test))
    assert np.array_equal(split.train, train > 0)
    assert np.array_equal(split.test, test > 0)
    used = split.train | split.validation | split.test
    assert np.array_equal(np.where(used, split.labels, 0), train + test)
    assert split.recipe == "fixed:a.npy,b.npy"
    assert split.warnings == (
        "class 1 has no test pixels (6 labelled)",
        "a.npy labels 7 of its 7 pixels otherwise than the labels of the scene",
        "b.npy labels 12 of its 12 pixels otherwise than the labels of the scene",
    )
    assert split.n_train_per_class(3) == [6, 1, 0]


def test_a_preset_is_a_recipe_with_its_source() -> None:
    labels = np.repeat(np.arange(1, 3), 200).reshape(20, 20)
    with pytest.warns(Notice, match=r"per-class:40:val=0\.25.*MambaHSI"):
        split = make_split(labels, "mambahsi")
    assert split.recipe == "per-class:40:val=0.25"
    assert split.n_train_per_class(2) == [30, 30]
    assert (split.n_validation, split.n_test) == (20, 320)


@pytest.mark.filterwarnings("ignore:split dase")
def test_dase_is_corrected() -> None:
    """Ten pixels that are published as training pixels of class 11 test as class 7."""
    labels = np.zeros((145, 145), np.uint8)
    labels[70:76], labels[76:79, 105:112] = 11, 7
    published = np.zeros_like(labels)
    published[70:73] = 4  # another numbering
    published[76:79, 105:112] = 5
    split = make_split(labels, "dase:ts.tif", fixed=(published, published))
    test = np.argwhere(split.test & (labels == 7)).tolist()
    assert test == [
        *([76, col] for col in range(108, 112)),
        *([77, col] for col in range(108, 112)),
        *([78, col] for col in range(110, 112)),
    ]
    assert split.n_train_per_class(11)[6] + split.validation[labels == 7].sum() == 21 - 10
    assert not (split.train & split.test).any()
    assert split.test[73:76].all()
    assert split.recipe == "dase:ts.tif"
    with pytest.raises(SplitError, match="145x145"):
        make_split(labels[:9], "dase:ts.tif", fixed=(published, published))


def test_fixed_refuses_what_does_not_fit() -> None:
    scene, other = np.ones((4, 6), np.uint8), np.ones((4, 5), np.uint8)
    with pytest.raises(SplitError, match=r"a\.npy and b\.npy share 24"):
        make_split(scene, "fixed:a.npy,b.npy", fixed=(scene, scene))
    with pytest.raises(SplitError, match=r"b\.npy has \(4, 5\)"):
        make_split(scene, "fixed:a.npy,b.npy", fixed=(scene, other))
    with pytest.raises(SplitError, match="needs its two"):
        make_split(scene, "fixed:a.npy,b.npy")


# --- what cannot be split, and what is said about it --------------------------------------------


def test_a_class_of_one_pixel_trains_and_is_warned_of() -> None:
    labels = np.ones((5, 5), np.uint8)
    labels[2, 2] = 7
    for spec in ("random:0.1", "per-class:5", "fields:0.2:gap=0"):
        split = make_split(labels, spec)
        assert split.train[2, 2]
        assert split.warnings == ("class 7 has no test pixels (1 labelled)",)


def test_a_class_of_two_pixels_has_one_on_each_side() -> None:
    labels = np.ones((5, 5), np.uint8)
    labels[2, 2:4] = 7
    split = make_split(labels, "random:0.9")
    assert split.n_train_per_class(7)[6] == 1
    assert (split.labels[split.test] == 7).sum() == 1
    assert split.warnings == ()


@pytest.mark.parametrize(
    ("labels", "spec"),
    [
        (np.zeros((5, 5), np.uint8), "random:0.1"),
        (np.eye(1, dtype=np.uint8), "random:0.1"),
        (np.ones((5, 5), np.uint8), "fields:0.2:gap=9"),
        (np.ones((5, 5), np.uint8), "blocks:5"),
        (np.ones((6, 6), np.uint8), "blocks:3:gap=9"),
        (np.ones((5, 5), np.uint8), "blocks:6"),
        (np.ones((5, 5), np.uint8), "checkerboard:100000"),
    ],
)
def test_impossible_splits_are_refused(labels: Labels, spec: str) -> None:
    with pytest.raises(SplitError):
        make_split(labels, spec)


@pytest.mark.parametrize(
    "labels", [np.ones(5, int), np.ones((5, 5)), np.full((5, 5), -1), np.full((5, 5), 70_000)]
)
def test_labels_that_are_none_are_refused(labels: npt.NDArray[Any]) -> None:
    with pytest.raises(LabelError):
        make_split(labels, "random:0.1")


def test_negative_seeds_are_refused() -> None:
    with pytest.raises(SplitError, match="negative"):
        make_split(np.ones((5, 5), int), seed=-1)


def test_a_split_refuses_masks_that_contradict_each_other() -> None:
    labels = np.array([[1, 1, 0]], np.uint16)
    left, right = np.array([[True, False, False]]), np.array([[False, True, False]])
    none = np.zeros((1, 3), bool)
    Split(labels, left, none, right, "given", 0)
    for train, validation, test in (
        (left, left, right),
        (left, none, right | left),
        (left, none, ~left),
        (left, none, right[:, :2]),
    ):
        with pytest.raises(SplitError):
            Split(labels, train, validation, test, "given", 0)


def test_the_digest_depends_on_masks_and_labels_only() -> None:
    labels = np.array([[1, 1, 2, 2]], np.uint16)
    masks = [np.array([[i == j for j in range(4)]]) for i in range(4)]
    split = Split(labels, masks[0], masks[1], masks[2], "a", 0)
    assert len(split.digest) == 16
    assert int(split.digest, 16) >= 0
    assert Split(labels, masks[0], masks[1], masks[2], "b", 1).digest == split.digest
    others = [
        Split(labels, masks[1], masks[0], masks[2], "a", 0),
        Split(labels, masks[0], masks[2], masks[1], "a", 0),
        Split(labels * 2, masks[0], masks[1], masks[2], "a", 0),
        Split(labels.T, masks[0].T, masks[1].T, masks[2].T, "a", 0),
    ]
    assert len({split.digest, *(other.digest for other in others)}) == 5


def test_the_leakage_sentence() -> None:
    leakage = {
        "test_touching": 0.3158,
        "test_within": {"1": 0.3158, "2": 0.6, "4": 0.901, "7": 0.99, "16": 1.0},
        "test_in_shared_fields": 1.0,
        "receptive_field_px": None,
    }
    assert leakage_sentence(leakage) == (
        "31.6 % of the test pixels touch a training pixel, 90.1 % lie within 4 px of one, "
        "100.0 % lie in a field with training pixels"
    )


# --- features, scenes, all labels, files ------------------------------------------------------


def with_features(labels: Labels, size: int = 4) -> LabelMap:
    """Labels whose features are squares of pixels."""
    rows, cols = np.indices(labels.shape) // size
    numbers = (rows * (cols.max() + 1) + cols + 1).astype(np.int32)
    n = int(labels.max())
    features = np.where(labels > 0, numbers, 0).astype(np.int32)
    return LabelMap(labels, default_class_names(n), default_colours(n), features=features)


@settings(max_examples=30)
@given(label_maps(), st.integers(0, 3))
def test_features_stay_whole(labels: Labels, seed: int) -> None:
    assume(labels.any())
    given_labels = with_features(labels)
    try:
        split = make_split(given_labels, "features:0.4", seed=seed)
    except SplitError:
        assume(False)
    assert given_labels.features is not None
    for label in np.unique(labels[labels > 0]).tolist():
        own = given_labels.features[labels == label]
        tests = split.test[labels == label]
        sides = {number: set(tests[own == number]) for number in np.unique(own).tolist()}
        if len(sides) > 1:
            assert all(len(side) == 1 for side in sides.values())
            assert {True, False} == set.union(*sides.values())
        else:
            assert np.count_nonzero(~tests) >= min(3, max(1, len(tests) - 1))
    assert (split.train | split.validation | split.test == (labels > 0)).all()


def test_the_share_of_features_that_tests() -> None:
    labels = np.ones((40, 40), np.uint8)
    split = make_split(with_features(labels), "features:0.3")
    assert split.n_test == 30 * 16
    cut = make_split(with_features(labels, size=40), "features:0.3")
    assert cut.n_test == round(0.3 * 1600)
    assert cut.warnings == (
        "class 1 has one feature only: it is cut, one part trains and the other tests",
    )
    with pytest.raises(SplitError, match="needs labels that are polygons or points"):
        make_split(labels, "features:0.3")


def test_a_feature_is_drawn_once_for_all_its_scenes() -> None:
    labels = np.ones((20, 20), np.uint8)
    one = with_features(labels)
    both = make_splits([one, one], "features:0.3", sources=["f.gpkg", "f.gpkg"])
    assert (both[0].test == both[1].test).all()
    apart = make_splits([one, one], "features:0.3", sources=["f.gpkg", "g.gpkg"])
    assert (apart[0].test != apart[1].test).any()


@pytest.mark.parametrize(("n_scenes", "n_test"), [(2, 1), (5, 2), (10, 3)])
def test_whole_scenes_test(n_scenes: int, n_test: int) -> None:
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 3, (5, 6)) for _ in range(n_scenes)]
    splits = make_splits(scenes, "scenes:0.3", seed=1)
    tests = [split.n_test > 0 for split in splits]
    assert sum(tests) == n_test
    for split, test, labels in zip(splits, tests, scenes, strict=True):
        assert (split.test == ((labels > 0) & test)).all()
        assert ((split.train | split.validation) == ((labels > 0) & (not test))).all()
    with pytest.raises(SplitError, match="needs several scenes"):
        make_split(scenes[0], "scenes:0.3")


def test_scenes_are_drawn_so_that_every_class_trains_and_tests() -> None:
    scenes = [np.full((3, 3), label) for label in (1, 1, 2, 2)]
    for seed in range(5):
        splits = make_splits(scenes, "scenes:0.5", seed=seed)
        tested = {int(split.labels[0, 0]) for split in splits if split.n_test}
        assert tested == {1, 2}


def test_all_labels_train() -> None:
    labels = indian_pines()
    split = make_split(labels, "all")
    assert split.n_train + split.n_validation == np.count_nonzero(labels)
    assert split.n_validation > 0
    leakage = split.leakage(31)
    assert leakage["test_touching"] is leakage["test_in_shared_fields"] is None
    assert set(leakage["test_within"].values()) == {None}
    assert leakage_sentence(leakage) == "no pixel tests, so there is none"
    assert split.warnings == ()


def test_a_split_from_a_file_is_the_same_split(tmp_path: Path) -> None:
    codes = (3, 40, 500)
    labels = LabelMap(np.kron([[1, 2], [3, 0]], np.ones((9, 9), int)), ("a", "b", "c"),
                      default_colours(3), codes=codes)  # fmt: skip
    first = make_split(labels, "checkerboard:4:gap=1", seed=3)
    path = tmp_path / "split.npz"
    write_split(path, first, overwrite=False)
    with np.load(path) as arrays:
        assert set(np.unique(arrays["labels"])) == {0, *codes}
    again = make_split(labels, str(path))
    assert (again.digest, again.recipe, again.seed) == (first.digest, first.recipe, first.seed)
    for name in ("train", "validation", "test"):
        assert (getattr(again, name) == getattr(first, name)).all()
    more = make_split(labels, f"{path}:val=0.4")
    assert (more.test == first.test).all()
    assert more.n_validation > first.n_validation
    other = replace(labels, labels=np.where(labels.labels == 2, 3, labels.labels))
    with pytest.raises(SplitError, match="have another label"):
        make_split(other, str(path))
    with pytest.raises(SplitError, match=r"is of \(18, 18\) pixels"):
        make_split(labels.labels[1:], str(path))
