"""``hsifcn split``: choose training, validation and test pixels."""

from __future__ import annotations

from pathlib import Path

import click

from hsifcn.cli import options as opt


@opt.command(
    "split cube.mat -s fields:0.2:gap=2 -o split.npz",
    "split cube.hdr -l cube_gt.mat -s random:0.1 --seed 3 -o split.npz",
    "split cube.hdr -l cube_gt.mat -s fixed:train.tif,test.tif",
)
@click.argument("scene")
@opt.options(opt.labels, opt.split, opt.seed)
@click.option(
    "-o", "--out", callback=opt.output_file, metavar="split.npz",
    help="File to write; without one the split is only described.",
)  # fmt: skip
@opt.options(opt.class_names, opt.nodata, opt.overwrite, opt.common)
def command(
    output: opt.Output,
    scene: str,
    label_paths: tuple[str, ...],
    label_field: str | None,
    all_touched: bool,
    recipe: str | None,
    seed: int,
    out: str | None,
    class_names: str | None,
    nodata: float | None,
    overwrite: bool,
) -> None:
    """Make a split and print how near its test pixels lie to the training pixels."""
    from hsifcn.cli import tables
    from hsifcn.data.dataset import Labelling, split_scenes
    from hsifcn.data.splits import leakage_sentence, write_split
    from hsifcn.io import open_scene

    labelled, further = opt.labels_to_split([scene], label_paths, output, recipe)
    labelling = Labelling(class_names, label_field, all_touched, further)
    scenes = [open_scene(scene, nodata=nodata)]
    _, (split,) = split_scenes(scenes, labelled, recipe, seed, labelling)
    if out:
        write_split(Path(out), split, overwrite=overwrite)
    for warning in split.warnings:
        output.message(f"warning: {warning}")
    leakage = split.leakage()
    rows = []
    masks = (split.train, split.validation, split.test)
    for number, name in enumerate(split.class_names, start=1):
        mine = split.labels == number
        if mine.any():
            code = str(split.class_codes[number - 1])
            rows.append((name, code, *(str(int((mine & mask).sum())) for mask in masks)))
    text = tables.table(("class", "code", "train", "validation", "test"), rows)
    output.result(
        f"{text}\n\n{split.n_train:,} training, {split.n_validation:,} validation, "
        f"{split.n_test:,} test pixels; digest {split.digest}\n{leakage_sentence(leakage)}",
        {
            "recipe": split.recipe,
            "seed": seed,
            "digest": split.digest,
            "n_train": split.n_train,
            "n_validation": split.n_validation,
            "n_test": split.n_test,
            "warnings": list(split.warnings),
            "leakage": leakage,
            "class_names": list(split.class_names),
            "class_codes": list(split.class_codes),
            "out": out,
        },
    )
