"""Samples of a map: how points are allocated, drawn, written, and read back after a spreadsheet."""

from __future__ import annotations

import csv

import numpy as np
import pyogrio
import pytest

from hsifcn.core.errors import LabelError, MismatchError, SettingError
from hsifcn.core.scene import Grid, LabelMap
from hsifcn.evaluation.evaluate_sample import evaluate_sample
from hsifcn.evaluation.sample_file import is_sample, read_sample
from hsifcn.evaluation.sampling import allocate, draw_sample

UTM = 'PROJCS["WGS 84 / UTM zone 33N",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",15],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1],AUTHORITY["EPSG","32633"]]'  # noqa: E501
GRID = Grid(UTM, (30, 0, 400_000, 0, -30, 5_800_000))
NAMES = ("corn", "oak wood", "hay")


def label_map(labels, grid=GRID):
    colours = ((1, 1, 1), (2, 2, 2), (3, 3, 3))
    return LabelMap(np.asarray(labels, np.uint8), NAMES, colours, grid)


def example(seed=0, accuracy=0.8):
    """A truth and a map of it, 60 x 80 pixels."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([1, 2, 3], (60, 80), p=[0.2, 0.3, 0.5])
    mapped = np.where(rng.random(truth.shape) < accuracy, truth, rng.integers(1, 4, truth.shape))
    return truth, label_map(mapped)


def fill_in(path, truth, names=NAMES, change=lambda rows: rows):
    """Do what an interpreter does in the column ``reference`` of a table."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["reference"] = names[truth[int(row["row"]), int(row["col"])] - 1]
    rows = change(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def filled(tmp_path):
    """A truth, its map and an interpreted sample of 120 points."""
    truth, mapped = example()
    path = tmp_path / "points.csv"
    draw_sample(mapped, 120, seed=1).write(path)
    fill_in(path, truth)
    return truth, mapped, path


def test_points_are_allocated_by_pixels_with_a_minimum() -> None:
    weights = np.array([0.02, 0.08, 0.9])
    sizes = np.array([200, 800, 9000])
    assert allocate(100, weights, sizes, 2).tolist() == [2, 8, 90]
    assert allocate(100, weights, sizes, 20).tolist() == [20, 20, 60]
    assert allocate(100, weights, sizes).tolist() == [10, 10, 80]
    assert allocate(5, np.full(3, 1 / 3), np.array([1, 1, 9]), 1).tolist() == [1, 1, 3]
    assert allocate(9, np.full(3, 1 / 3), np.array([2, 2, 9]), 2).tolist() == [2, 2, 5]


def test_too_few_and_too_many_points_are_refused() -> None:
    with pytest.raises(SettingError, match="too few: 2 in each of 3 strata"):
        allocate(5, np.full(3, 1 / 3), np.array([10, 10, 10]))
    with pytest.raises(SettingError, match="more than the 30 pixels"):
        allocate(31, np.full(3, 1 / 3), np.array([10, 10, 10]))


def test_a_neyman_allocation_favours_what_is_uncertain() -> None:
    _, mapped = example()
    n = [np.count_nonzero(mapped.labels == k) for k in (1, 2, 3)]
    expected = {"corn": 0.5, "oak wood": 0.9, "hay": 0.98}
    sample = draw_sample(mapped, 200, allocation="neyman", minimum=2, expected=expected)
    ideal = np.array(n) * np.sqrt([0.25, 0.09, 0.0196])
    np.testing.assert_allclose(sample.drawn, 200 * ideal / ideal.sum(), atol=1)
    with pytest.raises(SettingError, match="no oak, whose accuracy"):
        draw_sample(mapped, 200, allocation="neyman", expected={"oak": 0.5})
    with pytest.raises(SettingError, match="needs expected accuracies"):
        draw_sample(mapped, 200, allocation="neyman")


def test_points_lie_in_their_stratum_and_are_drawn_alike_often() -> None:
    labels = np.repeat([[0, 1, 1, 2, 3]], 4, axis=0)
    counts = np.zeros(labels.shape)
    for seed in range(600):
        sample = draw_sample(label_map(labels), 9, minimum=2, seed=seed)
        assert sample.names == ("unclassified", *NAMES)
        assert len(set(zip(sample.rows.tolist(), sample.cols.tolist(), strict=True))) == 9
        assert (labels[sample.rows, sample.cols] == sample.strata).all()
        counts[sample.rows, sample.cols] += 1
    inclusion = (sample.drawn / sample.sizes)[labels]
    assert (np.abs(counts / 600 - inclusion) < 5 * np.sqrt(inclusion / 600)).all()


def test_a_seed_gives_the_same_points_and_another_seed_others() -> None:
    _, mapped = example()
    a, b, c = (draw_sample(mapped, 50, seed=seed) for seed in (3, 3, 4))
    assert a.rows.tolist() == b.rows.tolist()
    assert a.rows.tolist() != c.rows.tolist()


def test_points_keep_clear_of_what_is_not_allowed() -> None:
    _, mapped = example()
    allowed = np.zeros(mapped.labels.shape, bool)
    allowed[10:20, 10:30] = True
    sample = draw_sample(mapped, 60, allowed=allowed, design="random")
    assert allowed[sample.rows, sample.cols].all()
    assert (sample.names, sample.sizes.tolist()) == (("all",), [200])


def test_a_geopackage_holds_points_at_the_pixels_centres(tmp_path) -> None:
    _, mapped = example()
    sample = draw_sample(mapped, 30)
    sample.write(tmp_path / "points.gpkg")
    meta, _, _, columns = pyogrio.raw.read(tmp_path / "points.gpkg")
    table = dict(zip(meta["fields"], columns, strict=True))
    bounds = pyogrio.read_bounds(tmp_path / "points.gpkg")[1]
    np.testing.assert_allclose(bounds[0], 400_000 + 30 * (table["col"] + 0.5))
    np.testing.assert_allclose(bounds[1], 5_800_000 - 30 * (table["row"] + 0.5))
    assert set(table["stratum"]) == set(NAMES)
    assert set(table["reference"]) == {""}
    assert is_sample(str(tmp_path / "points.gpkg"))


def test_a_sample_of_every_pixel_gives_the_truth(tmp_path) -> None:
    truth, mapped = example()
    path = tmp_path / "points.csv"
    draw_sample(mapped, truth.size).write(path)
    fill_in(path, truth)
    found = evaluate_sample(mapped, str(path))
    assert found["oa"] == pytest.approx((truth == mapped.labels).mean())
    for k, name in enumerate(NAMES, start=1):
        assert found["areas"][name]["proportion"] == pytest.approx((truth == k).mean())
        hectares = found["areas"][name]["square_metres"] / 1e4
        assert hectares == pytest.approx((truth == k).sum() * 0.09)
        right = mapped.labels[truth == k] == k
        assert found["per_class"][name]["recall"] == pytest.approx(right.mean())
    assert found["intervals"]["oa"] is None


def test_strata_of_another_map_measure_this_one(filled) -> None:
    """The estimate is near the truth, where counts of points would be far from it."""
    truth, _mapped, _ = filled
    _, other = example(seed=0, accuracy=0.4)
    found = evaluate_sample(other, str(filled[2]))
    low, high = found["intervals"]["oa"]
    assert low < (other.labels == truth).mean() < high
    assert found["areas"]["corn"]["mapped"] == pytest.approx((other.labels == 1).mean())


def test_two_maps_are_compared_on_one_sample(filled) -> None:
    truth, mapped, path = filled
    _, worse = example(seed=0, accuracy=0.5)
    difference = evaluate_sample(mapped, str(path), worse)["difference"]
    true_difference = (mapped.labels == truth).mean() - (worse.labels == truth).mean()
    low, high = difference["interval"]
    assert low < true_difference < high
    same = evaluate_sample(mapped, str(path), mapped)["difference"]
    assert same["oa_difference"] == 0
    assert same["interval"][0] < 0 < same["interval"][1]
    with pytest.raises(MismatchError, match="same pixels"):
        evaluate_sample(mapped, str(path), label_map(worse.labels[:5]))


def test_a_table_from_a_spreadsheet_is_read_as_before(filled, tmp_path) -> None:
    """Semicolons, decimal commas, blanks, case, codes, sums below, rows in another order."""
    _truth, mapped, path = filled
    before = evaluate_sample(mapped, str(path))
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    rows = rows[::-1]
    for i, row in enumerate(rows):
        row[header.index("inclusion")] = "0,01"
        row[header.index("x")] = row[header.index("x")].replace(".", ",")
        name = row[header.index("reference")]
        code = str(NAMES.index(name) + 1)
        row[header.index("reference")] = (f" {name.upper()} ", f"{code},0", code)[i % 3]
    rows.insert(5, [""] * len(header))
    rows.append(["Sum", *[""] * (len(header) - 1)])
    edited = tmp_path / "edited.csv"
    text = "\r\n".join(";".join(row) for row in [header, *rows])
    edited.write_bytes(text.encode("utf-8-sig"))
    with pytest.warns(UserWarning, match=r"1 point \(row 123\) of .* left out"):
        after = evaluate_sample(mapped, str(edited))
    assert after["confusion"] == before["confusion"]
    assert after["oa"] == pytest.approx(before["oa"])


def test_blanks_are_left_out_and_told(filled) -> None:
    truth, mapped, path = filled

    def blank(rows):
        for row in rows[::4]:
            row["reference"] = ""
        return rows

    fill_in(path, truth, change=blank)
    found = evaluate_sample(mapped, str(path))
    assert "30 of 120 points have no true class" in found["notes"][0]
    assert sum(row["interpreted"] for row in found["strata"].values()) == 90


def test_a_stratum_without_a_true_class_is_left_out_and_told(filled) -> None:
    truth, mapped, path = filled

    def blank(rows):
        return [{**row, "reference": "" if row["stratum"] == "corn" else "hay"} for row in rows]

    fill_in(path, truth, change=blank)
    found = evaluate_sample(mapped, str(path))
    assert any("No point of corn has a true class" in note for note in found["notes"])
    assert found["per_class"]["corn"]["precision"] is None
    assert found["areas"]["corn"]["proportion"] is None
    assert found["areas"]["hay"]["proportion"] == 1
    assert found["sampled_share"] == pytest.approx((mapped.labels > 1).mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [{**r, "reference": "Oak-wood"} for r in rows], "'Oak-wood' .oak wood"),
        (lambda rows: [{**r, "reference": ""} for r in rows], "no true class yet"),
        (lambda rows: [*rows, {**rows[0], "reference": "hay" if rows[0]["reference"] != "hay" else "corn"}], "different classes in rows 2 and 122"),  # noqa: E501
        (lambda rows: [{**rows[0], "stratum_px": "7"}, *rows[1:]], "different stratum_px"),
        (lambda rows: [{**r, "row": "500"} for r in rows], "no point of"),
        (lambda rows: [{**rows[0], "row": "500"}, *rows[1:]], r"1 point .row 2. of"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(filled, change, message) -> None:
    truth, mapped, path = filled
    without_place = lambda rows: [{**r, "x": "", "y": ""} for r in change(rows)]  # noqa: E731
    fill_in(path, truth, change=without_place)
    with pytest.raises((LabelError, MismatchError), match=message):
        read_sample(str(path), mapped)


def test_points_added_by_hand_are_refused(filled) -> None:
    truth, mapped, path = filled

    def add(rows):
        used = {(row["row"], row["col"]) for row in rows}
        free = next(col for col in range(80) if ("0", str(col)) not in used)
        return [*rows, {**rows[0], "row": "0", "col": str(free), "x": "", "y": ""}]

    fill_in(path, truth, change=add)
    with pytest.raises(LabelError, match="added by hand"):
        read_sample(str(path), mapped)


def test_a_point_twice_counts_once(filled) -> None:
    truth, mapped, path = filled
    fill_in(path, truth, change=lambda rows: [*rows, rows[0], rows[1]])
    with pytest.warns(UserWarning, match="2 points twice"):
        assert len(read_sample(str(path), mapped).truth) == 120


def test_a_true_class_that_the_map_has_not_is_a_class(filled) -> None:
    truth, mapped, path = filled
    fill_in(path, truth, names=("corn", "oak wood", "Lake"))
    with pytest.warns(UserWarning, match="the map has not: Lake"):
        found = evaluate_sample(mapped, str(path))
    assert found["class_names"] == [*NAMES, "Lake"]
    assert found["areas"]["Lake"]["mapped"] == 0
    assert found["areas"]["Lake"]["proportion"] > 0.3
    assert found["per_class"]["Lake"]["recall"] == 0


def test_points_that_were_moved_count_where_they_were_drawn(filled) -> None:
    truth, mapped, path = filled
    before = evaluate_sample(mapped, str(path))

    def move(rows):
        return [{**rows[0], "x": str(float(rows[0]["x"]) + 90)}, *rows[1:]]

    fill_in(path, truth, change=move)
    with pytest.warns(UserWarning, match="1 point .row 2. of .* were moved"):
        assert evaluate_sample(mapped, str(path))["oa"] == before["oa"]


def test_a_map_of_another_grid_is_met_by_coordinates(filled) -> None:
    """A map with 10 rows and 20 columns more around."""
    _truth, mapped, path = filled
    wide = np.zeros((80, 120), np.uint8)
    wide[10:70, 20:100] = mapped.labels
    grid = Grid(UTM, (30, 0, 400_000 - 20 * 30, 0, -30, 5_800_000 + 10 * 30))
    found = evaluate_sample(label_map(wide, grid), str(path))
    assert found["oa"] == evaluate_sample(mapped, str(path))["oa"]
    assert any("50.0 % of the map" in note for note in found["notes"])
