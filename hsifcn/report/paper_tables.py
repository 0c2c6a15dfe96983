"""Tables for papers: accuracy a class and overall, mean and standard deviation over the seeds.

The same tables as CSV, with every figure; as LaTeX, with the rules of the package ``booktabs``; and
as Markdown.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsifcn.core import formats
from hsifcn.evaluation.seeds import OVERALL, PER_CLASS
from hsifcn.io.files import atomic_write

CSV_COLUMNS = ("split", "model", "class", "figure", "mean", "std", "n", "values")
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
}
_FORMULA = ("=", "+", "-", "@")  # at the head of a cell, to a spreadsheet


@dataclass(frozen=True)
class PaperTable:
    """Models on one split.

    Attributes
    ----------
    split : str
        Its name.
    caption : str
        What is told, of what split, with what leakage.
    columns : dict of str to dict
        Of ``evaluation.seeds.over_seeds``, by model.
    """

    split: str
    caption: str
    columns: Mapping[str, Mapping[str, Any]]

    def rows(self) -> Iterator[tuple[str, str, str, list[Mapping[str, Any] | None]]]:
        """Class, training pixels, test pixels and recall of each model."""
        of_models = [column["per_class"] for column in self.columns.values()]
        for name in dict.fromkeys(name for classes in of_models for name in classes):
            n_train, n_test = (
                formats.count(of_models[0].get(name, {}).get(key)) for key in ("n_train", "n_test")
            )
            yield name, n_train, n_test, [row.get(name, {}).get("recall") for row in of_models]

    def overall(self) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
        """Name of an overall accuracy, and that of each model."""
        for key in OVERALL:
            yield key, [column[key] for column in self.columns.values()]


def write_paper_tables(folder: Path, tables: Sequence[PaperTable], *, overwrite: bool) -> list[str]:
    """Write ``tables.csv``, ``tables.tex`` and ``tables.md`` into a folder; gives their paths."""
    texts = {"csv": as_csv(tables), "tex": as_latex(tables), "md": as_markdown(tables)}
    paths = []
    for suffix, text in texts.items():
        path = folder / f"tables.{suffix}"
        with atomic_write(path, overwrite=overwrite) as temporary:
            temporary.write_text(text, "utf-8")
        paths.append(str(path))
    return paths


def as_csv(tables: Sequence[PaperTable]) -> str:
    """A line a figure: split, model, class (none of overall figures), figure, mean, std, values.

    Fractions of 1. Values stand in the order of the seeds, a blank between two.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        for model, figures in table.columns.items():
            named = [("", key, figures[key]) for key in OVERALL]
            named += [
                (name, key, row[key])
                for name, row in figures["per_class"].items()
                for key in PER_CLASS
            ]
            for name, key, found in named:
                known = [value for value in found["values"] if value is not None]
                cells = [csv_cell(part) for part in (table.split, model, name)]
                values = " ".join(str(value) for value in known)
                writer.writerow([*cells, key, found["mean"], found["std"], len(known), values])
    return text.getvalue()


def as_latex(tables: Sequence[PaperTable]) -> str:
    """A ``table`` a split; needs ``\\usepackage{booktabs}``."""  # noqa: D301
    parts = []
    for table in tables:
        head = ["Class", "Train", "Test", *map(latex_text, table.columns)]
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            latex_row(head),
            r"\midrule",
        ]
        for name, n_train, n_test, found in table.rows():
            cells = [latex_text(name), latex_text(n_train), latex_text(n_test)]
            lines.append(latex_row([*cells, *map(latex_number, found)]))
        lines.append(r"\midrule")
        names = {"oa": r"OA (\%)", "aa": r"AA (\%)", "kappa": r"$\kappa \times 100$"}
        for key, row in table.overall():
            lines.append(latex_row([names[key], "", "", *map(latex_number, row)]))
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(["% needs \\usepackage{booktabs}", *parts]) + "\n"


def as_markdown(tables: Sequence[PaperTable]) -> str:
    """A table a split, its caption above it."""
    parts = []
    for table in tables:
        head = ["class", "train", "test", *map(markdown_text, table.columns)]
        lines = [f"{markdown_text(table.caption)}\n", markdown_row(head)]
        lines.append(markdown_row(["---", *["---:"] * (len(head) - 1)]))
        for name, n_train, n_test, found in table.rows():
            recalls = map(formats.mean_sd, found)
            lines.append(markdown_row([markdown_text(name), n_train, n_test, *recalls]))
        names = {"oa": "OA %", "aa": "AA %", "kappa": "kappa x 100"}
        for key, row in table.overall():
            lines.append(markdown_row([names[key], "", "", *map(formats.mean_sd, row)]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def caption(recipe: str, seeds: int, drawn: str, leakage: str) -> str:
    """What a table tells, with its split and its leakage; ``drawn`` is what seeds draw."""
    of_what = f"mean and standard deviation of {seeds} seeds, {drawn}" if seeds > 1 else "one seed"
    return (
        f"Recall of each class, OA, AA and kappa in per cent; {of_what}. Split {recipe}; {leakage}."
    )


def latex_text(text: str) -> str:
    """Text with the characters that mean something to LaTeX escaped."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def latex_number(found: Mapping[str, Any] | None) -> str:
    r"""``$98.20 \pm 0.19$``."""
    text = formats.mean_sd(found).replace(formats.NOTHING, "--")
    mathematics = text.replace("±", r"\pm")
    return text if mathematics == text else f"${mathematics}$"


def latex_row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"{' & '.join(cells)} \\\\"


def markdown_text(text: str) -> str:
    """Text with the characters that mean something to Markdown escaped."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", one_line(text))


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def csv_cell(text: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    text = one_line(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def one_line(text: str) -> str:
    """Text without line breaks; control characters are shown as such."""
    return formats.shown(" ".join(text.split()))
