"""``sentiflow init``: input files -> what was found in them, and a settings file that runs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.jobs import check_free
from sentiflow.cli.terminal import WIDTH, align, fill
from sentiflow.errors import UserError, printable, shorten
from sentiflow.storage.uris import absolute_uri, display_uri, names_model

if TYPE_CHECKING:
    from sentiflow.data.inspection.findings import Inspection

_CELL = 60
_MOST_TOKENS = 512
"""The largest ``prepare.max_length`` that is written."""


def init(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILES...", help="CSV or Parquet files, or globs in quotes."),
    ],
    text: Annotated[
        str | None,
        typer.Option("--text", metavar="COLUMN", help="The column of texts: name or position."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="COLUMN", help="The column of labels: name or position."),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option("--test", metavar="FILE", help="A file of test rows, in the same format."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="URI", help="Score with this model, and train none."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="CONFIG", help="The file to write. Default: NAME.yaml."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the config.")] = False,
) -> None:
    """Look at a CSV or Parquet file, and write a config that runs."""
    with reporting():
        from sentiflow.data.inspection import findings

        if model is not None and test:
            raise UserError("--model trains nothing that --test could measure: leave one out")
        path = output or Path(f"{findings.name_after(files[0])}.yaml")
        uri = check_free(path, overwrite)
        from sentiflow.config import settings, yaml_text
        from sentiflow.storage import filesystem

        found = _inspect(files, text, label, scores_only=model is not None)
        if test and found.roles.label is None:
            raise UserError("--test needs labels", hint="choose the column with --label COLUMN")
        max_length, is_unspaced = _look_at_tokens(found)
        written = findings.render(
            found,
            files=files,
            name=findings.name_after(str(path.with_suffix(""))),
            origin=f"Written by `sentiflow init` for {_count_rows(found)}.",
            model_uri=model,
            test=test or (),
            max_length=max_length,
        )
        config = settings.validate(yaml_text.parse(written), source=str(path))
        if test or (model and not names_model(model)):
            from sentiflow.pipeline.preflight import config_checks

            config_checks.require(settings.resolve(config), ("prepare",) if test else ("score",))
        typer.echo(
            _to_text(
                found,
                files,
                scores_only=model is not None,
                has_test=bool(test),
                max_length=max_length,
                is_unspaced=is_unspaced,
            )
        )
        filesystem.write_bytes(uri, written.encode())
        trains = model is None and found.roles.label is not None
        command = f"run {path}" if trains else f"score {path}"
        if model is None and not trains:
            command += " score.model_uri=MODEL  # it only scores: without labels nothing is trained"
        typer.echo(f"\nwritten: {path}\nnext:    sentiflow {command}")


def _inspect(
    files: Sequence[str], text: str | None, label: str | None, *, scores_only: bool
) -> "Inspection":
    """Look at the files.

    Raises:
        UserError: They cannot be read, or most rows would be rejected.
    """
    from sentiflow.data import input_files
    from sentiflow.data.inspection import findings

    uris = input_files.expand([absolute_uri(file) for file in files])
    found = findings.inspect(uris, text=text, label=label, scores_only=scores_only)
    if findings.count_rejected(found) > 0.5:
        place = shorten(", ".join(map(display_uri, uris)), 200)
        raise UserError(
            f"{place}: {findings.list_rejected(found)}",
            hint="choose other columns with --text and --label, or raise format.max_text_length "
            "if texts are too long",
        )
    return found


def _count_rows(found: "Inspection") -> str:
    """Say how many rows and bytes there are."""
    about = "" if found.sample.is_whole else "about "
    size = found.sample.num_bytes
    unit = f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
    return f"{about}{found.sample.num_rows:,} rows ({unit})"


def _look_at_tokens(found: "Inspection") -> tuple[int | None, bool]:
    """Tokenize the sample.

    Returns:
        ``prepare.max_length``, if the default would cut more than one text in a hundred; whether
        more than a tenth of the tokens are letters of scripts without spaces.
    """
    import numpy as np
    import pyarrow.compute as pc

    from sentiflow.config.sections import PrepareSettings
    from sentiflow.data.arrays import UNSPACED
    from sentiflow.models import tokenizer

    texts = pc.drop_null(found.sample.column(found.roles.text))
    tokens = tokenizer.tokenize(texts, name="tweet")
    longest = np.quantile(np.diff(tokens.offsets), 0.99) if len(texts) else 0
    is_letter = np.array(pc.match_substring_regex(tokens.words, f"^[{UNSPACED}]"), bool)
    is_unspaced = bool(is_letter[tokens.ids].sum() > 0.1 * len(tokens.ids))
    if longest <= PrepareSettings.model_fields["max_length"].default:
        return None, is_unspaced
    return min(_MOST_TOKENS, 16 * math.ceil(longest / 16)), is_unspaced


def _to_text(
    found: "Inspection",
    files: list[str],
    *,
    scores_only: bool,
    has_test: bool,
    max_length: int | None,
    is_unspaced: bool,
) -> str:
    """Say what was found: the files, the columns, three rows, and what deserves attention."""
    from sentiflow.data.inspection import findings

    rows = _list_rows(found)
    return fill(
        "inspection.txt.j2",
        found=found,
        files=files[0] if len(found.sample.uris) == 1 else f"{len(found.sample.uris)} files",
        size=_count_rows(found),
        columns=[("column", "is", "values"), *_list_columns(found)],
        rows=[line.strip() for line in align(rows, "<<").splitlines()] if rows else [],
        scores_only=scores_only,
        has_test=has_test,
        max_length=max_length,
        is_unspaced=is_unspaced,
        rare=findings.count_rare(found),
        unnamed={_cut(value, 20): rows for value, rows in found.unnamed.items()},
        rejected=findings.list_rejected(found) if found.rejected else "",
        are_many=findings.count_rejected(found) > findings.MAX_REJECTED,
    )


def _list_columns(found: "Inspection") -> list[tuple[str, str, str]]:
    """Describe each column."""
    rows = []
    named = {value: name for name, values in found.classes.items() for value in values}
    for column in found.columns:
        names = named if column.name == found.roles.label else {}
        counted = [
            f"{v} {n:,}" if names.get(v, v) == v else f"{v} ({names[v]}) {n:,}"
            for v, n in column.counts.items()
        ]
        num_empty = len(found.sample.rows) - sum(column.counts.values())
        if column.name == found.roles.label and num_empty:
            counted.append(f"empty {num_empty:,}")
        rest = f", … ({column.num_distinct:,} values)"
        lists = [", ".join(counted), *(", ".join(counted[:n]) + rest for n in (5, 4, 3, 2))]
        values = next((some for some in lists if len(some) <= _CELL), lists[-1])
        if column.num_distinct > 20:
            values = f"{column.num_distinct:,} different, such as {next(iter(column.counts))}"
        if column.name == found.roles.text:
            values = f"{column.mean_length:.0f} characters on average"
        role = found.roles.of(column.name) or "-"
        rows.append((_cut(str(column.name), 24), role, _cut(values or "empty", _CELL)))
    return rows


def _list_rows(found: "Inspection") -> list[tuple[str, str]]:
    """Show three rows, of different labels where there are labels."""
    texts = found.sample.column(found.roles.text).to_pylist()
    labels: Sequence[Any] = range(len(texts))
    if has_labels := found.roles.label is not None:
        labels = found.sample.column(found.roles.label).to_pylist()
    rows: dict[Any, str] = {}
    for label, text in zip(labels, texts, strict=True):
        if text and label is not None:
            rows.setdefault(label, text)
    return [
        (_cut(label, 20) if has_labels else "", _cut(text, WIDTH - 24))
        for label, text in list(rows.items())[:3]
    ]


def _cut(text: str, length: int) -> str:
    """Write a text in one line, cut to a length."""
    return shorten(printable(" ".join(text.split())), length)
