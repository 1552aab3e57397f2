"""``sentiflow trends --sample`` and ``--width``: rows to label, and how many are needed."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from sentiflow.cli.terminal import fill, print_json
from sentiflow.errors import UserError
from sentiflow.progress import Progress
from sentiflow.storage.uris import display_uri

if TYPE_CHECKING:
    from sentiflow.config.sections import Config
    from sentiflow.shares.label_plan import LabelPlan
    from sentiflow.shares.sample_log import SaidWidth

_LABELS = "trends.labels="
"""The beginning of a changed setting that names files of labels."""
_WIDEST = 50
"""Below this half-width in points an interval tells something."""
_MAX_GROUPS = 10
"""Groups that are listed."""


class TrendsCommand(TyperCommand):
    """A command whose ``--sample`` needs no number beside ``--width``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave out ``--sample`` where no number follows and ``--width`` is given."""
        has_width = any(word == "--width" or word.startswith("--width=") for word in args)
        left = []
        for word, following in zip(args, [*args[1:], "--"], strict=True):
            is_bare = word == "--sample" and following.startswith("--")
            if not (has_width and is_bare):
                left.append(word)
        return super().parse_args(ctx, left)


def check_options(sample: int | None, width: float | None, output: Path | None) -> None:
    """Check that the options of a sample fit together.

    Raises:
        UserError: They do not, or the width tells nothing.
    """
    if sample is not None and width is not None:
        raise UserError(
            "--sample N and --width POINTS exclude each other",
            hint="sentiflow trends CONFIG --width 3 --output to_label.csv",
        )
    if width is not None and not 0 < width < _WIDEST:
        raise UserError(
            f"--width {width:g} is not above 0 and below {_WIDEST}: it is the half-width of a 95% "
            "interval in points",
            hint="--width 3 asks for intervals of 3 points to each side",
        )
    if width is None and (sample is None) != (output is None):
        raise UserError(
            "--sample and --output need each other",
            hint="sentiflow trends CONFIG --sample 300 --output to_label.csv",
        )


def join_predictions(resolved: "Config") -> None:
    """Join the predictions of another program to the corpus, if there are any and it is not done.

    Args:
        resolved: The settings.
    """
    from sentiflow.pipeline import stages

    if resolved.score.predictions:
        stages.run(resolved, ("score",))


def draw_for_width(
    resolved: "Config",
    width: float,
    *,
    typed: list[str],
    output: Path | None,
    uri: str,
    as_json: bool,
) -> None:
    """Say how many labels a half-width needs, and draw the rows that are missing.

    Args:
        resolved: The settings.
        width: The half-width, in points.
        typed: The settings file or the run, and the changed settings, as they were typed.
        output: The file, as it was typed; None: draw nothing.
        uri: Its location.
        as_json: Print the result as JSON.
    """
    from sentiflow.shares import label_plan
    from sentiflow.shares.sample_log import SaidWidth

    with Progress("trends", what="counting the labels that are needed"):
        plan = label_plan.plan(resolved, width)
    if not as_json:
        typer.echo(fill("label_plan.txt.j2", plan=plan, max_groups=_MAX_GROUPS))
    if output is None or not plan.num_to_draw:
        if as_json:
            print_json({"rows": 0, "width": _to_json(plan)})
        elif output is not None:
            typer.echo(f"\nNo row was drawn, so there is no {output}.")
        return
    if not as_json:
        typer.echo()
    draw(
        resolved,
        plan.num_to_draw,
        typed=typed,
        output=output,
        uri=uri,
        as_json=as_json,
        width=SaidWidth(wanted=width, labels=plan.labels, widest=plan.widest),
        more={"width": _to_json(plan)},
    )


def _to_json(plan: "LabelPlan") -> dict[str, Any]:
    """Convert what a half-width needs to JSON values."""
    groups = {}
    for item in plan.groups:
        table = item.table.assign(in_sample=item.table["in_sample"].round(1))
        groups[item.by] = table.to_dict("records")
    return {
        "wanted": plan.wanted,
        "widest": plan.widest,
        "labels": plan.labels,
        "labelled": plan.labelled,
        "pending": plan.pending,
        "more": plan.num_more,
        "at_most": plan.at_most,
        "texts": plan.num_rows,
        "known": plan.num_known,
        "reached": round(plan.reached.half_width, 2) if plan.reached else None,
        "is_measured": plan.is_measured,
        "groups": groups,
    }


def draw(
    resolved: "Config",
    num_rows: int,
    *,
    typed: list[str],
    output: Path,
    uri: str,
    as_json: bool,
    width: "SaidWidth | None" = None,
    more: dict[str, Any] | None = None,
) -> None:
    """Write a file of rows to label, and print the next steps.

    Args:
        resolved: The settings.
        num_rows: Number of rows.
        typed: The settings file or the run, and the changed settings, as they were typed.
        output: The file, as it was typed.
        uri: Its location.
        as_json: Print the result as JSON.
        width: What was said of the width of intervals, if the rows are drawn for it.
        more: Further values of the JSON.
    """
    from sentiflow.data import label_files
    from sentiflow.evaluation.evaluated_rows import name_any
    from sentiflow.shares import next_draw, sample_log
    from sentiflow.storage import filesystem

    with sample_log.hold(resolved):
        earlier = sample_log.read(resolved).paths
        with Progress("trends", what="drawing rows to label"):
            table, classes = next_draw.draw_rows(resolved, num_rows)
        filesystem.write_bytes(uri, label_files.to_csv(table, is_wide=uri.endswith(".txt")))
        sample_log.record(resolved, table, path=uri, width=width)
    if as_json:
        found = {"path": str(output), "rows": len(table), "classes": list(classes)}
        print_json(found | (more or {}))
        return
    typer.echo(f"{len(table):,} rows to label: {output}")
    if " after " in table["sample"].iloc[0]:
        typer.echo("They are not in earlier draws: name the files of all draws in trends.labels.")
    typer.echo(f"Write {name_any(classes)} in the column label, then:")
    named = _name_draws(resolved.trends.labels, earlier, output=output, uri=uri)
    if named:
        typed = [word for word in typed if not word.startswith(_LABELS)]
        typed.append(_LABELS + named)
    typer.echo(f"  {shlex.join(['sentiflow', 'trends', *typed, '--overwrite'])}")


def _name_draws(patterns: Sequence[str], earlier: Sequence[str], *, output: Path, uri: str) -> str:
    """Write the value of ``trends.labels`` that names a new draw, too.

    Args:
        patterns: The present value.
        earlier: The files of earlier draws.
        output: The file of the new draw, as it was typed.
        uri: Its location.

    Returns:
        The value as it is typed. Empty if the present one names the new draw.
    """
    from sentiflow.storage import filesystem, globs

    if any(globs.matches(uri, pattern) for pattern in patterns):
        return ""
    others = patterns or [path for path in earlier if path != uri and filesystem.exists(path)]
    if not others:
        return str(output)
    return f"[{','.join([*map(display_uri, others), str(output)])}]"
