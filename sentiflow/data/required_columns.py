"""Columns of a corpus + settings that name some -> accepted, or the columns that are missing."""

from collections.abc import Sequence

from sentiflow.config.sections import PrepareSettings
from sentiflow.data import csv_format, schema
from sentiflow.data.corpus import Plan
from sentiflow.errors import UserError


def check_columns(
    columns: Sequence[str] | None,
    keep_columns: Sequence[str],
    *,
    classes: Sequence[str] = (),
    is_prepared: bool = False,
) -> None:
    """Check ``score.keep_columns``; names are compared without case, as DuckDB and Spark do.

    Args:
        columns: Those of the corpus; None if it has no row.
        keep_columns: Those to keep.
        classes: Those of the model, where they are known.
        is_prepared: Whether the corpus are prepared tweets.

    Raises:
        UserError: The corpus lacks one, or predictions have their own column of that name.
    """
    own = {name.lower() for name in schema.predictions(classes).names} | {"probability"}
    for name in keep_columns:
        if name.lower() in own and name not in schema.TWEETS.names:
            raise UserError(
                f"score.keep_columns: predictions have their own column {name.lower()}",
                hint="leave it out, or rename it in the corpus",
            )
    missing = sorted(set(keep_columns).difference(columns or keep_columns))
    if columns and missing:
        also = "name it in prepare.keep_columns, too; " if is_prepared else ""
        raise UserError(
            f"score.keep_columns: the corpus has no column {', '.join(missing)}",
            hint=also + csv_format.suggest_column(missing[0], columns),
        )


def check_kept_names(names: Sequence[str]) -> None:
    """Check that ``prepare.keep_columns`` names no column that all tweets have.

    Raises:
        UserError: It does.
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
        source: The file, if it is only one of all.

    Raises:
        UserError: They do not.
    """
    kind = settings.split.kind
    for name in sorted({"label", *settings.read_columns, *({kind} & {"user", "time"})}):
        if plan.has_column(name):
            continue
        if name not in ("label", "user", "time"):
            there = [other for other in plan.columns or () if other not in schema.TWEETS.names]
            setting = "split.column" if name == settings.split.column else "keep_columns"
            raise UserError(
                f"prepare.{setting}: {source or 'one of the files'} has no column {name}",
                hint=csv_format.suggest_column(name, there),
            )
        raise UserError(
            f"format.columns does not name the column {name}, which preparation needs",
            hint=f"add format.columns.{name}"
            if name in ("label", kind)
            else f"add format.columns.{name}, or remove {name} from prepare.keep_columns",
        )
