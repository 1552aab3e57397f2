"""``sentiflow init``: input files -> what was found in them, and a settings file that runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.jobs import check_free
from sentiflow.cli.terminal import WIDTH, align, printable
from sentiflow.errors import UserError
from sentiflow.storage.uris import absolute_uri, names_model

if TYPE_CHECKING:
    from sentiflow.data.inspection.findings import Inspection

_CELL = 60
_MANY_REJECTED = 0.2
_MANY_FILES = 3


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
        from sentiflow.data.inspection import new_config

        path = output or Path(f"{new_config.name_after(files[0])}.yaml")
        check_free(path, overwrite)
        from sentiflow.config import settings, yaml_text
        from sentiflow.data.inspection import findings
        from sentiflow.storage import filesystem, globs

        if model is not None and not names_model(model):
            from sentiflow.tracking import model_sources

            model_sources.find(model, tracking=None, setting="--model")
        uris = globs.expand([absolute_uri(file) for file in files])
        found = findings.inspect(uris, text=text, label=label)
        if new_config.count_rejected(found) > 0.5:
            raise UserError(
                new_config.list_rejected(found), hint="choose other columns with --text and --label"
            )
        written = new_config.render(
            found,
            files=_as_glob(files, uris),
            name=new_config.name_after(str(path.with_suffix(""))),
            origin=f"Written by `sentiflow init` for {_count_rows(found)}.",
            model_uri=model,
        )
        settings.validate(yaml_text.parse(written), source=str(path))
        typer.echo(_to_text(found, files, scores_only=model is not None))
        filesystem.write_bytes(absolute_uri(str(path)), written.encode())
        verb = "run" if found.roles.label is not None and model is None else "score"
        typer.echo(f"\nwritten: {path}\nnext:    {_next_command(path, verb, model)}")


def _as_glob(files: list[str], uris: list[str]) -> list[str]:
    """Write many files as one glob, if it stands for the same files in the same order."""
    from sentiflow.storage import globs

    folder, slash, name = files[0].rpartition("/")
    suffix = "".join(Path(name).suffixes[-2:])
    pattern = f"{folder}{slash}*{suffix}"
    if len(files) <= _MANY_FILES or any(mark in "".join(files) for mark in "*?["):
        return files
    return [pattern] if globs.expand([absolute_uri(pattern)]) == uris else files


def _next_command(path: Path, verb: str, model: str | None) -> str:
    """Write the command that uses the config."""
    needs_model = verb == "score" and model is None
    return f"sentiflow {verb} {path}{' score.model_uri=MODEL' if needs_model else ''}"


def _count_rows(found: "Inspection") -> str:
    """Say how many rows and bytes there are."""
    about = "" if found.sample.is_whole else "about "
    size = found.sample.num_bytes
    unit = f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
    return f"{about}{found.sample.num_rows:,} rows ({unit})"


def _to_text(found: "Inspection", files: list[str], *, scores_only: bool = False) -> str:
    """Say what was found: the files, the columns, three rows, and what deserves attention."""
    dialect = found.sample.dialect
    form = "Parquet"
    if found.is_sentiment140:
        form = "CSV of Sentiment140"
    elif dialect:
        delimiter = {"\t": "tab"}.get(dialect.delimiter, f'"{dialect.delimiter}"')
        header = "with a header" if dialect.has_header else "without a header"
        form = f"CSV, {dialect.encoding}, delimiter {delimiter}, {header}"
    first = files[0] if len(found.sample.uris) == 1 else f"{len(found.sample.uris)} files"
    lines = [f"{first}: {_count_rows(found)}; {form}", ""]
    lines.append(align([("column", "is", "values"), *_list_columns(found)], "<<<"))
    lines += ["", *_list_rows(found)]
    notes = _list_notes(found)
    if found.roles.label is None and not scores_only:
        notes.insert(0, _say_no_label(found))
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _list_columns(found: "Inspection") -> list[tuple[str, str, str]]:
    """Describe each column."""
    rows = []
    named = {value: name for name, values in found.classes.items() for value in values}
    for column in found.columns:
        names = named if column.name == found.roles.label else {}
        values = ", ".join(
            f"{v} {n:,}" if names.get(v, v) == v else f"{v} ({names[v]}) {n:,}"
            for v, n in list(column.counts.items())[:5]
        )
        if column.num_distinct > 20:
            values = f"{column.num_distinct:,} different, such as {next(iter(column.counts))}"
        if column.name == found.roles.text:
            values = f"{column.mean_length:.0f} characters on average"
        role = found.roles.of(column.name) or "-"
        rows.append((_cut(str(column.name), 24), role, _cut(values or "empty", _CELL)))
    return rows


def _list_rows(found: "Inspection") -> list[str]:
    """Show three rows, of different labels where there are several."""
    texts = found.sample.column(found.roles.text).to_pylist()
    labels = [""] * len(texts)
    if found.roles.label is not None:
        labels = found.sample.column(found.roles.label).to_pylist()
    places: dict[str, int] = {}
    for place, (text, label) in enumerate(zip(texts, labels, strict=True)):
        if text and label is not None:
            places.setdefault(label if any(labels) else str(place), place)
        if len(places) == 3:
            break
    rows = [(_cut(labels[i], 20), _cut(texts[i], WIDTH - 24)) for i in places.values()]
    return [line.strip() for line in align(rows, "<<").splitlines()] if rows else []


def _say_no_label(found: "Inspection") -> str:
    """Say that there is no column of labels, and which may be meant."""
    some = [str(name) for name in found.roles.keep]
    other = f" (is it {' or '.join(some)}? --label {some[0]})" if some else ""
    return f"No column looks like a label{other}, so the config scores only."


def _list_notes(found: "Inspection") -> list[str]:
    """List what deserves attention."""
    from sentiflow.data.inspection import new_config

    notes = []
    learned = new_config.learned_classes(found)
    if rare := {n: rows for n, rows in found.label_counts.items() if n not in learned and rows}:
        listed = ", ".join(f"{name} ({rows:,})" for name, rows in rare.items())
        notes.append(f"Too few rows to learn: {listed}.")
    if found.unnamed:
        listed = ", ".join(f"{_cut(v, 20)} ({n:,})" for v, n in list(found.unnamed.items())[:5])
        notes.append(f"Labels of so few rows that they are taken for mistakes: {listed}.")
    if found.sample.is_damaged:
        notes.append("Some bytes are not UTF-8: they become U+FFFD.")
    if found.rejected:
        many = new_config.count_rejected(found) > _MANY_REJECTED
        way_out = ": set prepare.max_rejected_fraction, or mend the file" if many else ""
        notes.append(f"{new_config.list_rejected(found)}{way_out}.")
    return notes


def _cut(text: str, length: int) -> str:
    """Write a text in one line, cut to a length."""
    plain = printable(" ".join(text.split()))
    return plain if len(plain) <= length else f"{plain[: length - 3]}..."
