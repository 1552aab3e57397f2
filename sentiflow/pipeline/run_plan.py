"""Config -> what the stages would do, without running them.

Ray is imported only if a cluster has to be counted.
"""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentiflow.config.sections import Config
from sentiflow.data.output_status import Status, find_status, read_result
from sentiflow.errors import UserError
from sentiflow.pipeline import machine_load, stage_plans
from sentiflow.pipeline.stage_plans import Verb

if TYPE_CHECKING:
    from sentiflow.cluster.connection import Resources


@dataclass(frozen=True)
class Plan:
    """What :func:`stages.run` would do."""

    lines: list[str]
    """What would become of each stage, and the time and memory that it would take."""
    refusal: UserError | None
    """The error with which the run would end at a result that only ``overwrite`` replaces."""


def plan(config: Config, verbs: Sequence[Verb], *, overwrite: bool = False) -> Plan:
    """Foresee what :func:`stages.run` would do.

    Raises:
        UserError: Input or settings are wrong, or a directory has foreign files or, unless it is
            overwritten, a result in the format of another version.
    """
    from sentiflow.pipeline import estimates

    lines = []
    refusal = None
    state = "complete"
    resources: Resources | None = None
    verbs = stage_plans.leave_out_evaluation(config, verbs)
    for number, verb in enumerate(verbs):
        uri = getattr(config, verb).output_uri
        if state == "complete":
            status, config = _foresee_status(config, verbs[number:], overwrite)
            state = _describe_status(status, overwrite)
            if status.state == "other" and not overwrite:
                refusal = status.to_error(uri)
        else:
            state = f"after {verbs[number - 1]}"
        lines.append(f"# {verb:<9} {state}: {uri}")
        if state == "complete" or verb not in estimates.ESTIMATED:
            continue
        resources = resources or _count_resources()
        load_percent = 0 if resources.may_grow else machine_load.find()
        found = estimates.estimate(verb, config, resources, load_percent=load_percent)
        if found and found.is_long:
            lines.append(f"#           {found.to_text(with_core_hours=resources.may_grow)}")
    return Plan(lines, refusal)


def _count_resources() -> "Resources":
    """Count the cores of this machine; or join the cluster of ``RAY_ADDRESS``, and count its own.

    Raises:
        UserError: The cluster refuses the token, or the address is wrong.
        UnavailableError: The cluster does not answer.
    """
    from sentiflow.cluster import address
    from sentiflow.pipeline import estimates

    if not address.joins_cluster():
        return estimates.count_here()
    from sentiflow.cluster import connection

    # Ray prints some messages on standard output, where only the result belongs.
    with contextlib.redirect_stdout(sys.stderr), connection.starting(verbose=False) as wait:
        return wait()


def _foresee_status(
    config: Config, remaining: Sequence[Verb], overwrite: bool
) -> tuple[Status, Config]:
    """Compare the output of the first remaining stage; also return its resolved settings."""
    verb = remaining[0]
    is_new = read_result(getattr(config, verb).output_uri) is None
    if is_new:  # as in run: the plan reads what is checked here
        stage_plans.check_inputs(config, remaining, overwrite=overwrite)
    planned = stage_plans.plan_stage(verb, config)
    config = planned.config
    spec = planned.spec
    replaces = stage_plans.must_replace(spec, remaining, overwrite=overwrite)
    status = find_status(spec.to_replace() if replaces else spec)
    if not is_new and status.state != "complete":
        new_files = None
        if status.state == "extended" and status.record and spec.grows:
            new_files = spec.find_new(status.record)
        stage_plans.check_inputs(config, remaining, new_files, overwrite=overwrite)
    return status, config


def _describe_status(status: Status, overwrite: bool) -> str:
    """Say what a stage would do with its output."""
    if status.state == "new":
        action = "would run (an earlier run did not finish)" if status.run else "would run"
        replaced = [str(run) for run in status.outdated]
        return " and replace ".join([action, *replaced])
    if status.state == "extended":
        return "would add what is new"
    if status.state == "other":
        action = "would replace" if overwrite else "needs --overwrite"
        return f"{action}: it {status.problem}"
    return "complete"
