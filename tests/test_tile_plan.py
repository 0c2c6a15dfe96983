from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import noise_scene

from hsifcn.core.errors import MemoryCeilingError
from hsifcn.core.tiles import plan_tiles
from hsifcn.inference import tiling as tile_plan
from hsifcn.inference.refine.potentials import DEFAULTS
from hsifcn.inference.tiling import choose_tile, estimate_memory, plan_scene
from hsifcn.models import default_spec

SIZES = st.one_of(st.integers(1, 40), st.integers(1, 3000))


@settings(max_examples=300)
@given(SIZES, SIZES, st.integers(0, 60), st.sampled_from([1, 2, 8, 32]), st.integers(1, 300_000))
def test_tiles_are_as_small_as_asked(rows, cols, halo, stride, pixels):
    tile = choose_tile(rows, cols, halo, stride, pixels)
    smallest = min(rows, 2 * halo + 3 * stride) * min(cols, 2 * halo + 3 * stride)
    if tile is None:
        assert pixels < smallest
        return
    assert all(side % stride == 0 for side in tile)
    plan = plan_tiles(rows, cols, tile=tile, halo=halo, stride=stride)
    assert max(part.read.rows * part.read.cols for part in plan) <= pixels
    assert pixels >= smallest or len(plan) == 1


def test_little_is_read_twice():
    def share(rows, cols, halo, pixels):
        tile = choose_tile(rows, cols, halo, 4, pixels)
        plan = plan_tiles(rows, cols, tile=tile, halo=halo, stride=4)
        return sum(part.read.rows * part.read.cols for part in plan) / (rows * cols)

    assert share(5000, 400, 16, 2**18) < 1.06  # full width
    assert share(5000, 5000, 16, 2**18) < 1.15
    assert share(4000, 20_000, 16, 2**18) < 1.15


def test_tiles_are_as_large_as_each_other():
    tile = choose_tile(1100, 1030, 16, 4, 2**20)
    assert tile == (552, 1032)


@settings(max_examples=60)
@given(
    st.sampled_from(["hsifcn", "fcn8s", "segnet", "patch15"]),
    st.integers(1, 900),
    st.integers(1, 900),
    st.integers(1, 2000),
    st.sampled_from([None, "crf"]),
)
def test_plans_keep_the_ceiling_or_tell_the_least(name, rows, cols, megabytes, method):
    scene = noise_scene((rows, cols, 2))
    spec = default_spec(name, 2, 5)
    held = estimate_memory(spec, scene, DEFAULTS.get(method)).process
    ceiling = held + 50_000_000 + megabytes * 10**6  # the process grows a little meanwhile
    try:
        plan = plan_scene(spec, scene, ceiling, DEFAULTS.get(method))
    except MemoryCeilingError as error:
        least = int(error.remedy.split()[-1].removesuffix("M")) * 10**6
        assert ceiling < least
        assert plan_scene(spec, scene, least + 50_000_000, DEFAULTS.get(method)).tiles
    else:
        assert held < plan.peak_bytes <= ceiling + 50_000_000
        assert plan.read_pixels >= rows * cols
        assert (plan.halo == 0) == (len(plan.tiles) == 1) or plan.tiles[0].read == plan.tiles[
            0
        ].core


def test_a_scene_that_is_not_cut_needs_less():
    need = estimate_memory(default_spec("hsifcn", 200, 16), noise_scene((600, 600, 4)), None)
    assert need.process < need.whole(10**5) < need.cut(10**5)
    assert need.cut_pixels(need.cut(12_345)) == 12_345
    assert need.cut_pixels(0) == 0


def test_small_tiles_are_preferred_but_where_halos_are_wide():
    assert tile_plan.largest_tile(16) == tile_plan.TILE_PIXELS
    assert tile_plan.largest_tile(153) > 5 * tile_plan.TILE_PIXELS
