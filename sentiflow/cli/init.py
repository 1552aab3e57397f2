"""``sentiflow init``: input files -> what was found in them, and a settings file that runs."""

import itertools
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.jobs import check_free
from sentiflow.cli.terminal import WIDTH, align, fill
from sentiflow.config.class_names import set_apart
from sentiflow.errors import UserError, printable, shorten
from sentiflow.progress import Steps
from sentiflow.storage.uris import absolute_uri, display_uri, names_model

if TYPE_CHECKING:
    from sentiflow.data.inspection.columns import Column
    from sentiflow.data.inspection.findings import Inspection
    from sentiflow.data.inspection.new_config import Reading
    from sentiflow.models.tokens import Tokens

_STEPS = Steps(
    "init",
    read="reading a sample of the files, finding the columns",
    tokens="tokenizing the sample",
    check="checking the config",
)
_MAX_CELL_LENGTH = 60
"""Maximum characters of a column's values in the table."""
_MAX_LISTED_VALUES = 20
"""Maximum number of different values that are all listed."""
_NUM_EXAMPLES = 3
"""Number of rows that are shown as examples."""
_LARGEST_MAX_LENGTH = 256
"""Largest ``prepare.max_length`` that is written. Longer texts get ``prepare.cut: middle``. The
time of a training grows with it, and accuracy hardly does: see benchmarks/LOG.md."""
_MAX_REJECTED_FRACTION = 0.5
"""If a larger fraction of the sample would be rejected, the columns were not recognized."""
_LONG_QUANTILE = 0.99
"""Fraction of the texts that the written ``prepare.max_length`` should not cut."""
_MANY_COPIED = 0.02
"""If a larger fraction of the texts are near-copies of others, a remark says so."""
_UNSPACED_FRACTION = 0.1
"""If a larger fraction of the tokens are letters of scripts without spaces, a remark says so."""


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
        if model is not None and test:
            raise UserError("--model trains nothing that --test could measure: leave one out")
        from sentiflow.data.inspection import new_config
        from sentiflow.storage import filesystem

        path = output or Path(f"{new_config.name_after(files[0])}.yaml")
        uri = check_free(path, overwrite)
        with _STEPS.show("read"):
            found = _inspect_files(files, text, label, scores_only=model is not None)
        if test and found.roles.label is None:
            raise UserError("--test needs labels", hint="choose the column with --label COLUMN")
        with _STEPS.show("tokens"):
            tokens = _inspect_tokens(found, trains=model is None and found.roles.label is not None)
        config = new_config.render(
            found,
            files=files,
            name=new_config.name_after(str(path.with_suffix(""))),
            origin=f"Written by `sentiflow init` for {_count_rows(found)}.",
            model_uri=model,
            test=test or (),
            read=tokens.read,
        )
        with _STEPS.show("check"):
            _check_config(config, path, model, has_test=bool(test))
        summary = _render_findings(
            found, tokens, files=files, scores_only=model is not None, has_test=bool(test)
        )
        typer.echo(summary)
        filesystem.write_bytes(uri, config.encode())
        typer.echo(f"\nwritten: {path}\nnext:    {_name_next(found, path, model)}")


def _check_config(text: str, path: Path, model: str | None, *, has_test: bool) -> None:
    """Check the config as a job would, with the test files and the model that the user named.

    Raises:
        UserError: The job would fail.
    """
    from sentiflow.config import settings, yaml_text
    from sentiflow.config.locations import resolve_locations

    config = settings.validate(yaml_text.parse(text), source=str(path))
    if has_test or (model and not names_model(model)):
        from sentiflow.pipeline.preflight import config_checks

        stage = "prepare" if has_test else "score"
        # the job itself refuses a result of an earlier version, or replaces it
        config_checks.require(resolve_locations(config), (stage,), overwrite=True)


def _name_next(found: "Inspection", path: Path, model: str | None) -> str:
    """Write the command to type next."""
    config = shlex.quote(str(path))
    if model is not None:
        return f"sentiflow score {config}"
    if found.roles.label is not None:
        return f"sentiflow run {config}"
    # The config has no model: without labels it cannot train one.
    remark = "# it only scores: without labels nothing is trained"
    return f"sentiflow score {config} score.model_uri=MODEL  {remark}"


def _inspect_files(
    files: Sequence[str], text: str | None, label: str | None, *, scores_only: bool
) -> "Inspection":
    """Find the columns, the classes and the faults of the files, from a sample of their rows.

    Raises:
        UserError: A file cannot be read, or most rows would be rejected.
    """
    from sentiflow.data import input_files
    from sentiflow.data.inspection import findings

    uris = input_files.expand([absolute_uri(file) for file in files])
    found = findings.inspect(uris, text=text, label=label, scores_only=scores_only)
    if found.rejected_fraction > _MAX_REJECTED_FRACTION:
        place = shorten(", ".join(map(display_uri, uris)), 200)
        raise UserError(
            f"{place}: {findings.list_rejected(found)}",
            hint="choose other columns with --text and --label, or raise format.max_text_length "
            "if texts are too long",
        )
    return found


def _count_rows(found: "Inspection") -> str:
    """Say how many rows and bytes the files have."""
    about = "" if found.sample.is_whole else "about "
    size = found.sample.num_bytes
    unit = f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
    return f"{about}{found.sample.num_rows:,} rows ({unit})"


class _Tokens(NamedTuple):
    """Findings in the tokens of the sample."""

    is_unspaced: bool
    """Whether many tokens are letters of scripts without spaces; see ``_UNSPACED_FRACTION``."""
    read: "Reading"
    """What the network reads; the defaults if none is trained."""
    copied_fraction: float
    """Share of the texts that are near-copies of others."""


def _inspect_tokens(found: "Inspection", *, trains: bool) -> _Tokens:
    """Tokenize the sample; find the script of the texts, and what a network should read of them.

    Args:
        found: The inspected files.
        trains: Whether the config trains a network.
    """
    import numpy as np
    import pyarrow.compute as pc

    from sentiflow.data.arrays import UNSPACED
    from sentiflow.data.inspection.new_config import Reading
    from sentiflow.models import text_keys, tokenizer

    texts = pc.drop_null(found.sample.column(found.roles.text))
    tokens = tokenizer.tokenize(texts, name="tweet")
    is_letter = np.array(pc.match_substring_regex(tokens.words, f"^[{UNSPACED}]"), bool)
    num_letters = is_letter[tokens.ids].sum()
    is_unspaced = bool(num_letters > _UNSPACED_FRACTION * len(tokens.ids))
    return _Tokens(
        is_unspaced=is_unspaced,
        read=_choose_reading(tokens) if trains else Reading(),
        copied_fraction=text_keys.count_near_copies(texts) / max(1, len(texts)),
    )


def _choose_reading(tokens: "Tokens") -> "Reading":
    """Choose what a network reads of the texts of the sample."""
    import numpy as np

    from sentiflow.config.prepare_sections import PrepareSettings, VocabularySettings
    from sentiflow.data.inspection.new_config import Reading
    from sentiflow.models import units
    from sentiflow.words import unit_choice, word_vectors

    vectors = word_vectors.load(VocabularySettings.model_fields["vectors"].default)
    choice = unit_choice.choose(tokens, vectors)
    lengths = np.diff(units.split(tokens, choice.unit).offsets)
    long_length = np.quantile(lengths, _LONG_QUANTILE) if len(lengths) else 0
    max_length = None
    if long_length > PrepareSettings.model_fields["max_length"].default:
        multiple_of_16 = 16 * math.ceil(long_length / 16)
        max_length = min(_LARGEST_MAX_LENGTH, multiple_of_16)
    return Reading(
        unit=choice.unit,
        reason_for_characters=choice.reason_for_characters,
        max_length=max_length,
        cuts_middle=bool(long_length > _LARGEST_MAX_LENGTH),
    )


def _render_findings(
    found: "Inspection",
    tokens: _Tokens,
    *,
    files: list[str],
    scores_only: bool,
    has_test: bool,
) -> str:
    """Write the findings: the files, the columns, example rows, and faults."""
    from sentiflow.data.inspection import findings, new_config

    rows = _list_examples(found)
    shown = align(rows, "<<") if rows else ""
    num_files = len(found.sample.uris)
    return fill(
        "inspection.txt.j2",
        found=found,
        files=files[0] if num_files == 1 else f"{num_files} files",
        size=_count_rows(found),
        columns=[("column", "is", "values"), *_list_columns(found)],
        rows=[line.strip() for line in shown.splitlines()],
        scores_only=scores_only,
        has_test=has_test,
        is_unspaced=tokens.is_unspaced,
        read=tokens.read,
        copied=tokens.copied_fraction if tokens.copied_fraction >= _MANY_COPIED else 0,
        rare=findings.count_rare(found),
        small=findings.count_small(found),
        unnamed={_fit_to_line(value, 20): count for value, count in found.unnamed.items()},
        rejected=findings.list_rejected(found) if found.rejected else "",
        are_many=found.rejected_fraction > new_config.MAX_REJECTED,
    )


def _list_columns(found: "Inspection") -> list[tuple[str, str, str]]:
    """Describe each column: its name, its role, its values."""
    rows = []
    for column in found.columns:
        name = _fit_to_line(str(column.name), 24)
        role = found.roles.of(column.name) or "-"
        values = _describe_values(found, column) or "empty"
        rows.append((name, role, _fit_to_line(values, _MAX_CELL_LENGTH)))
    return rows


def _describe_values(found: "Inspection", column: "Column") -> str:
    """Describe the values of a column; list them if there are few."""
    if column.name == found.roles.text:
        return f"{column.mean_length:.0f} characters on average"
    if column.num_distinct > _MAX_LISTED_VALUES:
        return f"{column.num_distinct:,} different, such as {next(iter(column.counts))}"
    counted = _count_values(found, column)
    every = ", ".join(counted)
    if len(every) <= _MAX_CELL_LENGTH:
        return every
    rest = f", … ({column.num_distinct:,} values)"
    for number in (5, 4, 3, 2):
        some = ", ".join(counted[:number]) + rest
        if len(some) <= _MAX_CELL_LENGTH:
            return some
    return some  # still too long: the caller cuts it


def _count_values(found: "Inspection", column: "Column") -> list[str]:
    """Write each value with the number of its rows; a label also with its class, if it differs."""
    if column.name != found.roles.label:
        return [f"{value} {rows:,}" for value, rows in column.counts.items()]
    names = {value: name for name, values in found.classes.items() for value in values}
    counted = []
    for value, rows in column.counts.items():
        name = names.get(value, value)
        shown = set_apart(value)
        if name != value:
            shown += f" ({name})"
        counted.append(f"{shown} {rows:,}")
    num_empty = len(found.sample.rows) - sum(column.counts.values())
    if num_empty:
        counted.append(f"empty {num_empty:,}")
    return counted


def _list_examples(found: "Inspection") -> list[tuple[str, str]]:
    """Choose ``_NUM_EXAMPLES`` rows, of different labels if there are labels: label and text."""
    texts = found.sample.column(found.roles.text).to_pylist()
    labels: Sequence[Any] = range(len(texts))  # without labels, each row counts as different
    if found.roles.label is not None:
        labels = found.sample.column(found.roles.label).to_pylist()
    first_texts: dict[Any, str] = {}
    for label, text in zip(labels, texts, strict=True):
        if text and label is not None:
            first_texts.setdefault(label, text)
    rows = []
    for label, text in itertools.islice(first_texts.items(), _NUM_EXAMPLES):
        shown_label = "" if found.roles.label is None else _fit_to_line(label, 20)
        rows.append((shown_label, _fit_to_line(text, WIDTH - 24)))
    return rows


def _fit_to_line(text: str, length: int) -> str:
    """Write a text in one line, cut to a length."""
    return shorten(printable(" ".join(text.split())), length)
