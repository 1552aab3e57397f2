"""Options of several commands; results as text in lines and columns, or as JSON."""

import codecs
import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from sentiflow import errors
from sentiflow.config import class_names, vector_names
from sentiflow.config.text_units import find_unit, name_unit

AsJson = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A settings file (YAML).")]
ConfigOrRun = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="A settings file (YAML), or runs:/ID: a run in MLflow to repeat elsewhere.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change: train.num_epochs=2"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of other settings or inputs.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the resolved settings and what would run.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's and MLflow's own messages.")]

WIDTH = 96
"""Maximum characters of a line."""
MAX_VALUE = 24
"""Maximum characters of a value in a table."""
_MAX_TEXT = 40
"""Maximum characters of a text of the data in a table."""


def print_json(record: object, *, allow_nan: bool = True) -> None:
    """Print a result as JSON, in ASCII unless standard output is UTF-8."""
    is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
    typer.echo(json.dumps(record, ensure_ascii=not is_utf8, allow_nan=allow_nan))


def fill(template: str, **values: object) -> str:
    """Fill one of the templates of this package: texts for a terminal, and Markdown."""
    import jinja2  # slow to import, and most commands fill no template

    environment = jinja2.Environment(  # noqa: S701  the texts are not HTML
        loader=jinja2.PackageLoader("sentiflow.cli"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {
        "align": align,
        "columns": align_columns,
        "few": errors.few,
        "lowest": list_lowest_classes,
        "percent": "{:.1%}".format,
        "set_apart": class_names.set_apart,
        "shown": show_text,
        "table": align_table,
        "thousands": "{:,.0f}".format,
        "find_unit": find_unit,
        "name_unit": name_unit,
        "is_random": vector_names.is_random,
        "wrap": wrap,
    }
    return environment.get_template(template).render(**values).rstrip()


def list_lowest_classes(values: Mapping[str, float], form: str, where: str = "") -> str:
    """Write values of classes, see :func:`errors.list_lowest`; their names are set apart."""
    named = {class_names.set_apart(name): value for name, value in values.items()}
    return errors.list_lowest(named, form, where)


def show_text(text: str) -> str:
    """Write the beginning of a text of the data, without characters that control a terminal."""
    return errors.shorten(errors.printable(text), _MAX_TEXT)


def wrap(text: str) -> str:
    """Break a text into lines of ``WIDTH`` characters, between words."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def align(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Write rows in columns; ``sides`` has ``<`` (left) or ``>`` (right) for each column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, sides, widths, strict=True)
        line = "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells)
        lines.append(line.rstrip())
    return "\n".join(lines)


def align_columns(text: str, sides: str) -> str:
    """Align lines whose cells are separated by ``|``: cells are counted from the left.

    The last cell may contain ``|``, too. A line may have fewer cells.
    """
    rows = []
    for line in text.splitlines():
        if line.strip():
            cells = re.split(r" \| ?", line, maxsplit=len(sides) - 1)
            missing = len(sides) - len(cells)
            rows.append(cells + [""] * missing)
    return align(rows, sides)


def align_table(text: str, sides: str) -> str:
    """Align lines whose cells are separated by ``|``: cells are counted from the right.

    The first cell may contain ``|``, too. Each line has all cells.
    """
    rows = []
    for line in text.splitlines():
        if line.strip():
            cells = line.rsplit(" |", maxsplit=len(sides) - 1)
            rows.append([cell.strip() for cell in cells])
    return align(rows, sides)


def shorten(value: object) -> str:
    """Write a value as JSON, or a string without quotes, cut to ``MAX_VALUE`` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return errors.shorten(text, MAX_VALUE)
