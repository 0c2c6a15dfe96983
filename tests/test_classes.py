"""Classes of several label maps under one numbering."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from hsifcn.core.errors import LabelError
from hsifcn.core.scene import LabelMap, codes_table, default_colours, labels_of_codes
from hsifcn.data.classes import keep_classes, unite_classes


def label_map(classes, codes_given=True):
    """A row of pixels, one a class, of classes given as code and name."""
    codes = tuple(classes)
    names = tuple(name or f"class {code}" for code, name in classes.items())
    labels = np.arange(1, len(codes) + 1, dtype=np.uint8)[np.newaxis]
    return LabelMap(
        labels, names, default_colours(len(codes)), codes=codes, codes_given=codes_given
    )


def united(*maps, **options):
    """The classes of each pixel by name, and all classes as code and name."""
    found = unite_classes(maps, "abc"[: len(maps)], **options)
    classes = dict(zip(found[0].codes, found[0].class_names, strict=True))
    assert all(one.class_names == found[0].class_names for one in found)
    assert list(classes) == sorted(classes)
    pixels = [[one.class_names[label - 1] for label in one.labels[0]] for one in found]
    return classes, pixels


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_classes_without_names_are_matched_by_code():
    classes, pixels = united(label_map({7: "", 311: ""}), label_map({2: "", 311: ""}))
    assert classes == {2: "class 2", 7: "class 7", 311: "class 311"}
    assert pixels == [["class 7", "class 311"], ["class 2", "class 311"]]


def test_a_name_that_one_map_lacks_comes_from_the_other():
    classes, _ = united(label_map({1: "", 5: ""}), label_map({1: "corn", 5: "oak", 6: "hay"}))
    assert classes == {1: "corn", 5: "oak", 6: "hay"}


def test_names_of_tables_are_matched_by_name():
    one = label_map({1: "corn", 2: "oak"}, codes_given=False)
    other = label_map({1: "elm", 2: "oak", 3: "pea"}, codes_given=False)
    classes, pixels = united(one, other)
    assert pixels == [["corn", "oak"], ["elm", "oak", "pea"]]
    assert len(classes) == 4


def test_one_name_with_two_codes_is_one_class():
    maps = label_map({1: "oak", 2: "fir"}), label_map({1: "fir", 2: "oak"})
    with pytest.warns(UserWarning, match="is . in b and . in a: taken for one class, as their nam"):
        _, pixels = united(*maps)
    assert pixels == [["oak", "fir"], ["fir", "oak"]]


def test_one_code_with_two_names():
    """Two classes for training; a spelling where a map is held against labels."""
    maps = label_map({1: "oak", 2: "fir"}), label_map({1: "oak", 2: "Fir"})
    with pytest.warns(UserWarning, match="code 2 is 'Fir' in b and 'fir' in a: 'Fir' gets the cod"):
        classes, pixels = united(*maps)
    assert (classes, pixels[1]) == ({1: "oak", 2: "fir", 3: "Fir"}, ["oak", "Fir"])
    with pytest.warns(UserWarning, match="class 2 is 'Fir' in b and 'fir' in a: taken for one"):
        classes, pixels = united(*maps, same_code_is_same=True)
    assert (classes, pixels[1]) == ({1: "oak", 2: "fir"}, ["oak", "fir"])


def test_codes_that_hsifcn_made_up_match_no_other_name():
    mapped = label_map({1: "corn", 2: "hay"})
    table = label_map({1: "elm", 2: "hay"}, codes_given=False)
    _, pixels = united(mapped, table, same_code_is_same=True)
    assert pixels == [["corn", "hay"], ["elm", "hay"]]


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(LabelError, match=r"a has two classes called 'oak'; .*--class-names"):
        united(label_map({1: "oak", 2: "oak"}))


def test_codes_and_labels_are_inverse():
    codes = (112, 3, 4_000_000_000)
    table = codes_table(codes)
    assert table.dtype == np.uint32
    labels = np.array([[0, 3, 1], [2, 2, 0]])
    np.testing.assert_array_equal(labels_of_codes(table[labels], codes), labels)
    np.testing.assert_array_equal(labels_of_codes(np.array([5, 112, 0]), codes), [0, 1, 0])


def test_kept_classes_are_counted_anew():
    kept = keep_classes(label_map({3: "oak", 5: "fir", 9: "elm"}), [3, 1])
    assert (kept.class_names, kept.codes) == (("elm", "oak"), (9, 3))
    assert kept.labels.tolist() == [[2, 0, 1]]
