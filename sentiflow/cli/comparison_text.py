"""Comparison of two models -> text for a terminal or a file, at most 100 columns wide."""

import textwrap
from collections.abc import Sequence

from sentiflow.cli import comparison_rows
from sentiflow.cli.terminal import align, wrap
from sentiflow.evaluation.comparison import Comparison, Model
from sentiflow.evaluation.regression import Regression
from sentiflow.metrics.paired import write_p
from sentiflow.storage.uris import as_typed


def to_text(found: Comparison) -> str:
    """Write a comparison: both runs, settings that differ, metrics, slices, the verdict."""
    blocks = [
        _describe("first", found.first) + _describe("second", found.second),
        [_count_rows(found)],
        _list_settings(found),
        _list_metrics(found),
        _list_slices(found),
        [wrap(f"Note: {note}.") for note in found.notes],
        [wrap(found.verdict)],
        _list_worse(found.regression) if found.regression else [],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _describe(side: str, model: Model) -> list[str]:
    where = "" if model.run_id is None else f"  (predictions in {as_typed(model.scored_uri)})"
    about = f": {model.about}" if model.about else ""
    return [f"{side:<7} {model.name}{where}", f"        model {model.fingerprint}{about}"]


def _count_rows(found: Comparison) -> str:
    kind = "labelled" if found.split == "all" else f"labelled {found.split}"
    lines = [f"{found.num_rows:,} {kind} rows are compared."]
    for side, other, model in (
        ("first", "second", found.first),
        ("second", "first", found.second),
    ):
        if model.num_rows_only_here:
            lines.append(f"{_rows(model.num_rows_only_here, 'more ')} in the {side} run only.")
        if model.num_rows_seen:
            lines.append(
                f"{_rows(model.num_rows_seen)} left out: test rows of the {other} run that the "
                f"{side} model was trained or chosen by."
            )
    return wrap(" ".join(lines))


def _rows(number: int, which: str = "") -> str:
    return f"{number:,} {which}{'row is' if number == 1 else 'rows are'}"


def _list_settings(found: Comparison) -> list[str]:
    if found.settings is None:
        return []
    rows = comparison_rows.list_settings(found)
    table = align([("settings that differ", "first", "second"), *rows], "<<<")
    return [table if rows else "All settings of training and preparation are equal."]


def _list_metrics(found: Comparison) -> list[str]:
    counts = found.mcnemar
    test = (
        f"Only the first is right on {counts.only_first_right:,} rows, only the second on "
        f"{counts.only_second_right:,}. McNemar's exact test: {write_p(counts.p_value)}."
    )
    titles = ("", "first", "second", "difference", "95 % interval", "")
    table = align([titles, *comparison_rows.list_metrics(found)], "<>>>>>")
    return [table, "* lower is better", wrap(test)]


def _list_slices(found: Comparison) -> list[str]:
    num_slices = len(found.slices)
    if not num_slices:
        return []
    moved = comparison_rows.list_slices(found)
    if not moved:
        return [f"The accuracy differs in none of {num_slices} slices (Holm)."]
    rest = num_slices - len(moved)
    last = f"No difference is shown in the other {rest} slices. " if rest else ""
    table = _align("accuracy differs in", moved)
    return [table, f"{last}p is adjusted for {num_slices} slices (Holm)."]


def _list_worse(found: Regression) -> list[str]:
    num_checks = len(found.checks)
    margin = f" by more than {found.margin:g}" if found.margin else ""
    lines = [f"Not worse{margin}: none of {num_checks} checks shows it (Holm)."]
    if found.worse:
        table = _align(f"worse{margin}", comparison_rows.list_worse(found))
        lines = [table, f"p is adjusted for {num_checks} checks (Holm)."]
    if found.not_asked:
        lines.append(wrap(f"Behavior tests are not among them: {found.not_asked}."))
    return lines


def _align(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Write rows on parts of the data in columns; long names of parts are cut."""
    titles = (title, "rows", "first", "second", "difference", "95 % interval", "")
    cut = [(textwrap.shorten(row[0], 30, placeholder="..."), *row[1:]) for row in rows]
    return align([titles, *cut], "<>>>>>>")
