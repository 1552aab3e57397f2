"""The command ``compare``: two models on the same rows, in text, JSON or Markdown."""

import dataclasses
import functools
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sentiflow.cli.exits import NOT_BETTER, reporting
from sentiflow.cli.terminal import AsJson, Verbose, fill, print_json, shorten
from sentiflow.errors import UserError, few
from sentiflow.storage.uris import absolute_uri

if TYPE_CHECKING:
    from sentiflow.evaluation.comparison import Comparison

_FAIL_IF_WORSE = "--fail-if-worse"
_NUMBER = re.compile(r"[-+]?[\d.]+(e-?\d+)?")
"""A number on the command line, such as 0.01 or 1e-3; a negative one is refused later."""


class WithMargin(TyperCommand):
    """A command whose ``--fail-if-worse`` may stand without a margin, for a margin of 0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write the margin behind a ``--fail-if-worse`` that no number follows."""
        if _FAIL_IF_WORSE in args:
            after = args.index(_FAIL_IF_WORSE) + 1
            has_margin = after < len(args) and _NUMBER.fullmatch(args[after])
            if not has_margin:
                args = [*args[:after], "0", *args[after:]]
        return super().parse_args(ctx, args)


def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run's output_uri, a scored directory, or a file of predictions.",
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="RUN", help="The run to compare with it.")],
    slices: Annotated[
        list[str] | None,
        typer.Option(
            "--slice",
            metavar="NAME=REGEX|COLUMN",
            help="Your own slice, or a slice for each value of a column; may be repeated.",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            _FAIL_IF_WORSE,
            metavar="[MARGIN]",
            min=0,
            max=1,
            help="End with exit code 3 if the second is worse by more than the margin (0).",
        ),
    ] = None,
    headline: Annotated[
        str,
        typer.Option(
            "--headline",
            metavar="METRIC",
            help="Judge by accuracy, f1_macro, quadratic_kappa or mae.",
        ),
    ] = "accuracy",
    markdown: Annotated[
        str | None,
        typer.Option("--markdown", metavar="FILE", help="Also write it for a pull request."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Compare two models on the same test rows, with confidence intervals and tests."""
    with reporting(verbose):
        to = absolute_uri(markdown, setting="--markdown") if markdown else ""
        patterns = _read_patterns([option for option in slices or () if "=" in option])
        columns = [option for option in slices or () if "=" not in option]
        from sentiflow.evaluation import comparison
        from sentiflow.storage import filesystem

        result = comparison.compare(
            first,
            second,
            patterns=patterns,
            columns=columns,
            margin=margin,
            headline=headline,
        )
        if to:
            filesystem.write_bytes(to, f"{to_text(result, 'comparison.md.j2')}\n".encode())
        if as_json:
            print_json(dataclasses.asdict(result), allow_nan=False)
        else:
            typer.echo(to_text(result))
    if result.regression and result.regression.worse:
        raise typer.Exit(NOT_BETTER)


def _read_patterns(options: Sequence[str]) -> dict[str, str]:
    """Parse the slices that the user wrote as ``NAME=REGEX``.

    Raises:
        UserError: A regular expression is wrong.
    """
    from sentiflow.config.types import check_patterns

    try:
        return check_patterns(dict(option.split("=", 1) for option in options))
    except ValueError as error:
        raise UserError(f"--slice {error}") from error


def to_text(comparison: "Comparison", template: str = "comparison.txt.j2") -> str:
    """Write a comparison: both runs, settings that differ, metrics, slices, the verdict."""
    from sentiflow.evaluation.comparison import METRIC_NAMES
    from sentiflow.metrics.paired import write_p

    return fill(
        template,
        c=comparison,
        metric_names={
            name: title for name, title in METRIC_NAMES.items() if name in comparison.differences
        },
        slices=[item for item in comparison.slices if item.moved or item.is_own],
        classes=_list_classes(comparison),
        worse=comparison.regression.worse if comparison.regression else (),
        settings=_list_settings(comparison),
        cut=functools.partial(textwrap.shorten, width=30, placeholder="..."),
        escape=_escape_markdown,
        write_p=write_p,
    )


def _list_classes(comparison: "Comparison") -> list[tuple[str, tuple[float, float] | None]]:
    """List the classes whose F1 differs, with both F1, the largest differences first.

    Classes of fewer than ``MIN_ROWS`` rows come last, with their number of rows. If there are many
    classes, the last row has no F1 and says how many more there are.
    """
    from sentiflow.metrics.classification import MIN_ROWS

    first = comparison.first.figures.get("by_class", {})
    second = comparison.second.figures.get("by_class", {})
    f1: dict[str, tuple[float, float]] = {}
    rank: dict[str, tuple[bool, float]] = {}
    for name in first:
        if name not in second:
            continue
        before = first[name]["f1"]
        after = second[name]["f1"]
        if before is not None and after is not None and before != after:
            num_rows = first[name]["num_rows"]
            is_small = num_rows < MIN_ROWS
            shown = (
                f"{name} ({num_rows} {'row' if num_rows == 1 else 'rows'})" if is_small else name
            )
            f1[shown] = (before, after)
            rank[shown] = (is_small, -abs(after - before))
    in_order = sorted(rank, key=lambda shown: rank[shown])
    return [(shown, f1.get(shown)) for shown in few(in_order, "with --json")]


def _list_settings(comparison: "Comparison") -> list[tuple[str, str, str]]:
    """List the settings that differ: key, value in the first run, value in the second run.

    Settings of labels come last, as there is one for each class. If there are many, the last row
    says how many more there are.
    """
    rows = []
    labels = {}
    for change in comparison.settings or ():
        row = (change.key, shorten(change.first), shorten(change.second))
        if ".labels." in change.key:
            labels[change.key] = row
        else:
            rows.append(row)
    for key in few(list(labels), "with --json"):
        rows.append(labels.get(key, (key, "", "")))
    return rows


def _escape_markdown(text: str) -> str:
    """Escape a name, so that Markdown reads no table, tag or style in it."""
    return re.sub(r"[\\`*_<>|\[\]#@]", r"\\\g<0>", " ".join(text.split()))
