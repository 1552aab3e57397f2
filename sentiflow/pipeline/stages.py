"""Config -> the stages run in order, with Ray and MLflow; their manifests.

Stages, Ray and MLflow are imported where they are needed, as each import takes a second or two.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sentiflow.config.sections import Config
from sentiflow.config.written import WrittenCommand
from sentiflow.data import outputs
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import read_result
from sentiflow.data.outputs import Output
from sentiflow.pipeline import run_contents, stage_plans
from sentiflow.pipeline.session import NEED_RAY, Session
from sentiflow.pipeline.stage_plans import StagePlan, Verb
from sentiflow.progress import Progress, say
from sentiflow.storage.uris import display_uri, is_local

if TYPE_CHECKING:
    from sentiflow.cluster.connection import Resources
    from sentiflow.tracking.recorder import Recorder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of one stage."""

    verb: Verb
    uri: str
    """The output of the stage."""
    record: Manifest
    """The stage's manifest."""
    ran: bool
    """False if the result was complete before."""


def run(
    config: Config,
    verbs: Sequence[Verb],
    *,
    overwrite: bool = False,
    verbose: bool = False,
    command: WrittenCommand | None = None,
) -> list[Outcome]:
    """Run stages in order; a complete stage is skipped, without Ray or a run in MLflow.

    Before the first stage runs, the inputs of this stage and of all later stages are checked.

    Args:
        config: The settings.
        verbs: The stages.
        overwrite: Replace results of other settings or inputs.
        verbose: Show Ray's and MLflow's own messages.
        command: The command as it was typed, which is recorded so that it can be repeated.

    Raises:
        UserError: Input or settings are wrong, or a directory belongs to other settings.
        JobError: A stage failed.
    """
    is_whole_run = tuple(verbs) == config.run_stages
    verbs = stage_plans.leave_out_evaluation(config, verbs)
    outcomes = []
    with Session(config, verbose=verbose, command=command) as session:
        for number in range(len(verbs)):
            outcome = _complete_stage(
                session, verbs[number:], overwrite=overwrite, is_whole_run=is_whole_run
            )
            outcomes.append(outcome)
    return outcomes


def _complete_stage(
    session: Session, remaining: Sequence[Verb], *, overwrite: bool, is_whole_run: bool
) -> Outcome:
    """Run the first remaining stage, unless its result is complete."""
    verb = remaining[0]

    def check(output: Output | None = None) -> None:
        session.check_inputs(remaining, output, overwrite=overwrite)

    if read_result(getattr(session.config, verb).output_uri) is None:
        check()  # the stage will run, and its plan reads what is checked here
    with Progress(verb, what="looking at the inputs"):
        planned = stage_plans.plan_stage(verb, session.config)
    session.config = planned.config
    spec = planned.spec
    replaces = stage_plans.must_replace(spec, remaining, overwrite=overwrite)
    if replaces:
        spec = spec.to_replace()
    else:
        for note in spec.notes:
            say(verb, note)
    with (
        session.taking_reserved(verb) as held,
        outputs.open_output(
            spec, overwrite=replaces, user=session.user, before=check, held=held
        ) as output,
    ):
        if output.is_complete and output.status.record:
            _tell_complete(verb, planned.spec, output.status.record)
            return Outcome(verb, spec.uri, output.status.record, ran=False)
        session.reserve(remaining[1:])
        session.start_ray(remaining)
        with session.open_run(planned, remaining, is_whole_run=is_whole_run) as recorder:
            _take_over(verb, output, recorder)
            record = _run_stage(planned, remaining, output, recorder, session)
            recorder.log_result(record)
        return Outcome(verb, spec.uri, record, ran=True)


def _tell_complete(verb: Verb, spec: OutputSpec, record: Manifest) -> None:
    """Say that a result is complete, and which of its predictions are by earlier versions."""
    say(verb, f"complete: {display_uri(spec.uri)}")
    # With ``follows``, predictions by an earlier version of the model stay valid. Without it, they
    # count as changes.
    strict = replace(spec, follows="")
    for change in strict.find_changes(record):
        say(verb, f"{change}: new files use it; --overwrite rescores all")


def _take_over(verb: Verb, output: Output, recorder: "Recorder") -> None:
    """Say what a stage replaces, and end the runs of killed jobs whose work it takes over."""
    status = output.status
    if status.problem:
        say(verb, f"replaces {display_uri(output.spec.uri)}, which {status.problem}")
    else:
        for run in status.outdated:
            say(verb, f"replaces {run}")
    output.mlflow_run_id = recorder.run_id
    for run in status.unfinished:
        run_id = run.description.get("mlflow_run_id", "")
        recorder.end_killed(run_id, output.spec)


def _run_stage(
    planned: StagePlan,
    remaining: Sequence[Verb],
    output: Output,
    recorder: "Recorder",
    session: Session,
) -> Manifest:
    """Run the first remaining stage; return its manifest."""
    verb = remaining[0]
    config = planned.config
    recorder.log_settings(run_contents.describe_settings(planned, verb))
    options: dict[str, Resources] = {}
    if verb in NEED_RAY:
        resources = options["resources"] = _wait_for_ray(planned, remaining, output, session)
        uri = getattr(config, verb).output_uri
        if is_local(uri) and not resources.is_one_machine:
            from sentiflow.cluster import nodes

            nodes.check_shared(f"{verb}.output_uri", uri)
    record: Manifest = stage_plans.import_stage(verb).run(planned, output, recorder, **options)
    return record


def _wait_for_ray(
    planned: StagePlan, remaining: Sequence[Verb], output: Output, session: Session
) -> "Resources":
    """Wait for Ray, note its resources for the manifest, and tell the estimate of the stage."""
    assert session.resources, "start_ray comes first"
    with Progress(remaining[0], what="starting Ray, or joining the cluster"):
        resources = session.resources()
    load_percent = 0 if resources.may_grow else session.load_percent
    output.details["resources"] = _describe_resources(resources, load_percent)
    if output.resumes:
        output.details["resumed"] = True
    elif not output.previous:  # the estimate is for a whole corpus
        _tell_estimates(planned, remaining, resources, session, load_percent)
    return resources


def _describe_resources(resources: "Resources", load_percent: int) -> dict[str, int]:
    """Describe the machine or the cluster for the manifest: later estimates need it."""
    names = ("num_cpus", "num_gpus", "num_nodes", "min_node_cpus")
    described = {name: getattr(resources, name) for name in names}
    return described | {"load_percent": load_percent}


def _tell_estimates(
    planned: StagePlan,
    remaining: Sequence[Verb],
    resources: "Resources",
    session: Session,
    load_percent: int,
) -> None:
    """Tell what the first remaining stage takes; on a cluster first also what all stages take."""
    from sentiflow.pipeline import estimates

    verb = remaining[0]
    if resources.may_grow and len(remaining) > 1 and not session.has_told_sum:
        whole = estimates.sum_up(remaining, planned.config, resources)
        if whole:
            say("run", f"in all {whole}")
    session.has_told_sum = True
    files = planned.spec.inputs.get("corpus", {}).get("files")
    if files:
        files = [item for item in files if item["uri"] not in planned.spec.gone]
    found = estimates.estimate(
        verb, planned.config, resources, corpus=files, load_percent=load_percent
    )
    if found and found.is_long:
        say(verb, found.to_text(with_core_hours=resources.may_grow))
