"""Manifests of a job -> the summary at its end, and commands to type next."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sentiflow.cli.terminal import fill
from sentiflow.storage.uris import display_uri

if TYPE_CHECKING:
    from sentiflow.pipeline.stages import Outcome


def render(verb: str, outcomes: Sequence["Outcome"], path: Path) -> str:
    """Write the results of a job, and after a whole run what to type next.

    Args:
        verb: The job: a stage, or ``run``.
        outcomes: What its stages have made; of a refit there is no evaluation.
        path: The file of the settings.

    Returns:
        Lines; nothing for a job that has said all in its log.
    """
    records = {outcome.verb: outcome.record for outcome in outcomes}
    uris = {outcome.verb: display_uri(outcome.uri) for outcome in outcomes}
    if verb == "train":
        return ""
    if verb == "sweep":
        from sentiflow.training import sweep_tables

        return sweep_tables.to_text(records["sweep"])
    if verb != "run":
        return fill(f"{verb}.txt.j2", records=records, uris=uris)
    from sentiflow.evaluation.evaluated_rows import headline_split

    return fill(
        "run.txt.j2",
        records=records,
        uris=uris,
        split=headline_split(list(records["evaluate"]["figures"])) if "evaluate" in uris else "",
        any_ran=any(outcome.ran for outcome in outcomes),
        is_registered=any(record.get("registered") for record in records.values()),
        command=command,
        config=str(path),
    )


def command(*words: str) -> str:
    """Write a command as the user can type it: by its path if it is not on PATH."""
    beside = str(Path(sys.executable).parent / "sentiflow")
    program = "sentiflow" if shutil.which("sentiflow") == beside else display_uri(beside)
    return shlex.join([program, *words])
