"""Columns of files and prepared data -> whether they have the columns that the settings name."""

from collections.abc import Collection, Sequence

from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.data import csv_format, partitions, schema
from sentiflow.data.corpus import Corpus, Plan
from sentiflow.errors import UserError
from sentiflow.storage.uris import display_uri

_MEANINGS = ("label", "user", "time")
"""Names in ``prepare.keep_columns`` that stand for a column of ``format.columns``."""


def check_scored(
    rows: Plan | Corpus,
    keep_columns: Sequence[str],
    *,
    classes: Sequence[str] = (),
    is_ordered: bool = False,
) -> None:
    """Check that each file has each column to keep once: in the file, or by a folder.

    Args:
        rows: Files, or prepared data.
        keep_columns: The columns to keep.
        classes: The classes of the model, if they are known.
        is_ordered: Whether they have an order.

    Raises:
        UserError: A file lacks a column or has it twice, or predictions have their own column of
            that name.
    """
    _check_not_reserved(keep_columns, classes, is_ordered=is_ordered)
    if isinstance(rows, Corpus):
        check_columns(rows.columns, keep_columns)
        return
    check_columns(rows.columns, keep_columns, columns_by_file=rows.columns_by_file)
    partitions.check_unique(rows.columns_by_file, keep_columns, setting="score.keep_columns")


def check_columns(
    columns: Sequence[str] | None,
    keep_columns: Sequence[str],
    *,
    columns_by_file: Sequence[tuple[str, Collection[str]]] = (),
    is_prepared: bool = False,
) -> None:
    """Check ``score.keep_columns``; upper and lower case are equal, as in DuckDB and Spark.

    Args:
        columns: The columns of the corpus; None if it has no row.
        keep_columns: The columns to keep.
        columns_by_file: URI and columns of each file, so that a message can name the file.
        is_prepared: Whether the corpus consists of prepared tweets.

    Raises:
        UserError: The corpus lacks a column, or predictions have their own column of that name.
    """
    _check_not_reserved(keep_columns)
    if not columns:
        return
    missing = sorted(set(keep_columns).difference(columns))
    if not missing:
        return
    lacking = partitions.find_lacking(columns_by_file, missing[0])
    if lacking:
        owner = display_uri(lacking.uri)
        missing = [name for name in missing if name not in lacking.columns]
        hint = _suggest_column(missing[0], lacking)
    else:
        owner = "the corpus"
        hint = csv_format.suggest_column(missing[0], columns)
        if is_prepared:
            hint = f"name it in prepare.keep_columns, too; {hint}"
    raise UserError(f"score.keep_columns: {owner} has no column {', '.join(missing)}", hint=hint)


def _check_not_reserved(
    keep_columns: Sequence[str], classes: Sequence[str] = (), *, is_ordered: bool = False
) -> None:
    """Check that predictions have no column of their own with the name of a column to keep."""
    form = schema.predictions(classes, has_unsure=True, is_ordered=is_ordered)
    reserved = {name.lower() for name in form.names}
    reserved.add("probability")
    for name in keep_columns:
        if name.lower() in reserved and name not in schema.TWEETS.names:
            raise UserError(
                f"score.keep_columns: predictions have their own column {name.lower()}",
                hint="leave it out, or rename it in the corpus",
            )


def check_kept_names(names: Sequence[str]) -> None:
    """Check that ``prepare.keep_columns`` names no column that tweets always have.

    Raises:
        UserError: A name is one of these columns.
    """
    for name in names:
        if name.lower() in (*schema.TWEETS.names, "split"):
            raise UserError(
                f"prepare.keep_columns: tweets have their own column {name.lower()}",
                hint="leave it out, or rename it in the files",
            )


def check_preparation(plan: Plan, settings: PrepareSettings, *, source: str = "") -> None:
    """Check that files have the columns that their preparation needs.

    Args:
        plan: The files.
        settings: The section ``prepare``.
        source: The file, if the plan has only one file.

    Raises:
        UserError: A column is missing.
    """
    partitions.check_unique(
        plan.columns_by_file, settings.additional_columns, setting="prepare.keep_columns"
    )
    required = {"label"}
    if settings.split.kind in ("user", "time"):
        required.add(settings.split.kind)
    for name in sorted(required.union(settings.additional_columns)):
        if plan.has_column(name):
            continue
        if name in _MEANINGS:
            raise _explain_unnamed(name, is_required=name in required)
        raise _explain_missing(name, plan, settings, source)


def _explain_unnamed(name: str, *, is_required: bool) -> UserError:
    """Explain that ``format.columns`` names no column of a meaning."""
    hint = f"add format.columns.{name}"
    if not is_required:
        hint += f", or remove {name} from prepare.keep_columns"
    return UserError(
        f"format.columns does not name the column {name}, which preparation needs", hint=hint
    )


def _explain_missing(name: str, plan: Plan, settings: PrepareSettings, source: str) -> UserError:
    """Explain that a file lacks a column that the settings name."""
    setting = "split.column" if name == settings.split.column else "keep_columns"
    lacking = partitions.find_lacking(plan.columns_by_file, name)
    if lacking:
        return UserError(
            f"prepare.{setting}: {display_uri(lacking.uri)} has no column {name}",
            hint=_suggest_column(name, lacking),
        )
    others = [other for other in plan.columns or () if other not in schema.TWEETS.names]
    return UserError(
        f"prepare.{setting}: {source or 'one of the files'} has no column {name}",
        hint=csv_format.suggest_column(name, others),
    )


def _suggest_column(name: str, lacking: partitions.Lacking) -> str:
    """Write a hint for a column that one of the files lacks."""
    if lacking.is_in_others:
        listed = csv_format.list_names(lacking.columns)
        return (
            "other files have it, and all need it, in the file or by a folder; "
            f"the columns of this one are {listed}"
        )
    is_table = lacking.uri.lower().endswith(".parquet")
    if is_table and len(lacking.columns) == 1:
        return f"its only column is {lacking.columns[0]!r}"
    return csv_format.suggest_column(name, lacking.columns)
