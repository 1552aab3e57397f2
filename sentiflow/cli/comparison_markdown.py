"""Comparison of two models -> Markdown for a pull request."""

from collections.abc import Sequence

from sentiflow.cli import comparison_rows
from sentiflow.evaluation.comparison import Comparison
from sentiflow.evaluation.regression import Regression

_DIFFERENCE = ("difference", "95 % interval", "p")


def to_markdown(found: Comparison) -> str:
    """Write the verdict, what is worse, the metrics, slices that differ, and settings."""
    first, second = names = [_escape(model.name) for model in (found.first, found.second)]
    rows = f"{found.num_rows:,} labelled {'' if found.split == 'all' else found.split + ' '}rows"
    blocks = [
        f"### {second} compared with {first}",
        _escape(found.verdict),
        *(_describe(found.regression) if found.regression else []),
        _table((rows, *names, *_DIFFERENCE), comparison_rows.list_metrics(found)),
        r"\* lower is better",
    ]
    if slices := comparison_rows.list_slices(found):
        blocks.append(_table(("accuracy differs in", "rows", *names, *_DIFFERENCE), slices))
        blocks.append(f"p is adjusted for {len(found.slices)} slices (Holm).")
    if settings := comparison_rows.list_settings(found):
        blocks.append(_table(("settings that differ", *names), settings))
    return "\n\n".join([*blocks, *(f"> {_escape(note)}." for note in found.notes)]) + "\n"


def _describe(regression: Regression) -> list[str]:
    num_checks = len(regression.checks)
    margin = f" by more than {regression.margin:g}" if regression.margin else ""
    if not regression.worse:
        return [f"**Not worse**{margin}: none of {num_checks} checks shows it (Holm)."]
    titles = (f"**Worse**{margin}", "rows", "first", "second", *_DIFFERENCE)
    table = _table(titles, comparison_rows.list_worse(regression))
    return [table, f"p is adjusted for {num_checks} checks (Holm)."]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[_escape(cell) for cell in row] for row in rows]
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """Keep Markdown from reading a name as a table, a tag or a style."""
    for mark in "\\`*_<>|[]#@":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
