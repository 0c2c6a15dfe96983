"""How a scene is cut into tiles, and how much memory mapping it takes, before the work starts."""

from __future__ import annotations

from dataclasses import dataclass

from hsifcn.core import formats
from hsifcn.core.errors import MemoryCeilingError
from hsifcn.core.process import FLOAT, FREE_SHARE, free_memory, rss_bytes
from hsifcn.core.scene import Scene
from hsifcn.core.tiles import Tile, plan_tiles
from hsifcn.inference.applicability import STEP_BYTES
from hsifcn.inference.refine.potentials import FEATURES, Refinement
from hsifcn.inference.spectral_classifier import KERNEL_BYTES
from hsifcn.inference.streaming import reading_bytes
from hsifcn.models import MODELS, ModelSpec, geometry

# A tile reads at most so many pixels, or a square of so many halos a side if that is more: the
# layers of larger tiles leave the cache, those of smaller ones read too much twice.
TILE_PIXELS = 2**19
TILE_HALOS = 12
WRITE_PIXELS = 2**16  # whose labels and probabilities are made and written at once


@dataclass(frozen=True)
class TilePlan:
    """How a scene will be mapped.

    Attributes
    ----------
    tiles : list of Tile
        One that is the scene, where it is scored whole.
    halo : int
        Pixels read round each core; 0 for a whole scene.
    peak_bytes : int
        Resident memory of the process that is expected at most.
    seconds : float
        Time that is expected; NaN where nothing was measured.
    """

    tiles: list[Tile]
    halo: int
    peak_bytes: int
    seconds: float = float("nan")

    @property
    def read_pixels(self) -> int:
        """Pixels read, those of halos each time."""
        return sum(tile.read.rows * tile.read.cols for tile in self.tiles)

    def sentence(self) -> str:
        """How the scene will be mapped, with what memory, and about how long it will take."""
        largest = max((tile.read for tile in self.tiles), key=lambda read: read.rows * read.cols)
        size = f"{largest.rows}x{largest.cols} pixels"
        how = f"whole scene of {size}"
        if len(self.tiles) > 1:
            how = f"{len(self.tiles)} tiles of up to {size}, halo {self.halo}"
        memory, time = formats.megabytes(self.peak_bytes), formats.about(self.seconds)
        return f"plan: {how}; about {memory} MB of memory, {time}"


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory that scoring takes, bytes.

    Attributes
    ----------
    process : int
        Held already, or taken whatever the size of a tile.
    reading, writing : int
        Blocks of the scene that are read ahead; labels and probabilities on their way to the disk.
    features, network, scores : int
        A pixel: the stem's output, what is held at most while the pixel is scored, and what is kept
        of it until it is written.
    """

    process: int
    reading: int
    writing: int
    features: int
    network: int
    scores: int

    def whole(self, pixels: int) -> int:
        """Memory for a scene of so many pixels: it is read, scored and written in turn."""
        steps = (
            pixels * self.features + self.reading,
            pixels * self.network,
            pixels * self.scores + self.writing,
        )
        return self.process + max(steps)

    def cut(self, pixels: int) -> int:
        """Memory for tiles of so many pixels: the next is read and the last written meanwhile."""
        fixed = self.process + self.reading + self.writing
        return fixed + pixels * (self.network + self.scores)

    def cut_pixels(self, ceiling: int) -> int:
        """Pixels of the largest tile that stays under a ceiling."""
        room = ceiling - self.process - self.reading - self.writing
        return max(0, room) // (self.network + self.scores)


def plan_scene(
    spec: ModelSpec,
    scene: Scene,
    max_memory: int | None = None,
    refinement: Refinement | None = None,
    *,
    approximate: bool = False,
    by_spectrum: bool = False,
    dissimilarity: bool = False,
) -> TilePlan:
    """How to map a scene so that the process stays within ``max_memory`` bytes.

    ``by_spectrum`` tells that scores of the spectral classifier are held, too; ``dissimilarity``,
    that the dissimilarity of each pixel is.

    Raises
    ------
    MemoryCeilingError
        Not even the smallest tile fits; or the whole scene does not, where network or refinement
        look at all of it and may not be ``approximate``.
    """
    rows, cols, _ = scene.shape
    stride, halo = geometry(spec).stride, geometry(spec).halo
    memory = estimate_memory(
        spec, scene, refinement, by_spectrum=by_spectrum, dissimilarity=dissimilarity
    )
    ceiling = max_memory or rss_bytes() + int(FREE_SHARE * free_memory())
    fits = memory.whole(rows * cols) <= ceiling
    exact = refinement is None or refinement.exact_in_tiles
    if fits and (halo is None or not (exact or approximate) or rows * cols <= largest_tile(halo)):
        tiles = plan_tiles(rows, cols, tile=(rows, cols), halo=0, stride=stride)
        return TilePlan(tiles, 0, memory.whole(rows * cols))
    if halo is None:
        raise MemoryCeilingError(
            f"{scene.path} does not fit into the memory given, and {spec.name} looks at all of it",
            "give more --max-memory, or take another model",
        )
    if not (exact or approximate):
        assert refinement is not None
        raise MemoryCeilingError(
            f"{scene.path} must be cut into tiles, which {refinement.method} is not exact in",
            "take crf, allow --approximate, or give more --max-memory",
        )
    halo += 0 if refinement is None else refinement.reach
    pixels = min(memory.cut_pixels(ceiling), largest_tile(halo))
    tile = choose_tile(rows, cols, halo, stride, pixels)
    if tile is None:
        smallest = min(rows, 2 * halo + 3 * stride) * min(cols, 2 * halo + 3 * stride)
        raise MemoryCeilingError(
            f"{scene.path} cannot be scored within the memory given",
            f"the smallest tile takes --max-memory {-(-memory.cut(smallest) // 10**6)}M",
        )
    tiles = plan_tiles(rows, cols, tile=tile, halo=halo, stride=stride)
    largest = max(tile.read.rows * tile.read.cols for tile in tiles)
    return TilePlan(tiles, halo, memory.cut(largest))


def largest_tile(halo: int) -> int:
    """Pixels read for one tile at most, however much memory there is."""
    return max(TILE_PIXELS, (TILE_HALOS * halo) ** 2)


def choose_tile(
    rows: int, cols: int, halo: int, stride: int, pixels: int
) -> tuple[int, int] | None:
    """Rows and columns of the tiles with which least is read twice.

    Parameters
    ----------
    rows, cols : int
        Size of the scene.
    halo, stride : int
    pixels : int
        That may be read for one tile.

    Returns
    -------
    tuple of int or None
        Multiples of the stride; None where no tile is small enough.
    """
    margin = 2 * (halo + stride)  # rounding to the stride included
    best: tuple[int, tuple[int, int]] | None = None
    for width in sorted({-(-cols // (n * stride)) * stride for n in range(1, cols + 1)})[::-1]:
        across = -(-cols // width)
        read_width = cols if across == 1 else min(cols, width + margin)
        read_height = pixels // read_width
        height = rows if read_height >= rows else (read_height - margin) // stride * stride
        if height < min(stride, rows):
            continue
        down = -(-rows // height)
        height = -(-rows // (down * stride)) * stride  # as large as each other
        read = (rows + (down - 1) * margin) * (cols + (across - 1) * margin)
        if best is None or read < best[0]:
            best = read, (height, width)
    return best and best[1]


def estimate_memory(
    spec: ModelSpec,
    scene: Scene,
    refinement: Refinement | None,
    *,
    by_spectrum: bool = False,
    dissimilarity: bool = False,
) -> MemoryEstimate:
    """Memory that scoring takes, by arithmetic; what the process holds already is included."""
    scores = FLOAT * spec.classes
    features = FLOAT * spec.stem_channels
    network = int(FLOAT * MODELS[spec.name].activations_per_pixel(spec))
    held = rss_bytes()
    if by_spectrum:
        features, network, held = features + scores, network + scores, held + KERNEL_BYTES
    if refinement is not None:
        spectra = FLOAT * min(FEATURES, spec.bands)
        features += spectra
        network = max(network + spectra, scores + refinement.bytes_per_pixel(spec.classes))
    reading, kept = reading_bytes(scene, spec.bands), scores
    if dissimilarity:
        reading += STEP_BYTES
        features, network, kept = features + FLOAT, network + FLOAT, kept + FLOAT
    return MemoryEstimate(
        process=held,
        reading=reading,
        writing=WRITE_PIXELS * (3 * scores + 16 + 12 * dissimilarity),
        features=features,
        network=network + 1,  # and whether it is valid
        scores=kept + 9,  # and class, and whether it is valid
    )
