"""Config -> the stages run in order, with Ray and MLflow; their manifests.

Stages, Ray and MLflow are imported where they are needed, as each import takes a second or two.
"""

import contextlib
import functools
import importlib
import logging
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol

import yaml

from sentiflow.config import submitter
from sentiflow.config.sections import RUN_STAGES, Config
from sentiflow.config.written import WrittenCommand
from sentiflow.data import manifest, outputs
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import Status, UnfinishedRun, find_status, read_result
from sentiflow.data.outputs import Output
from sentiflow.errors import PermissionDeniedError, UnavailableError, UserError
from sentiflow.pipeline import machine_load, run_contents
from sentiflow.progress import Progress, say
from sentiflow.storage import lease, retries
from sentiflow.storage.uris import display_uri, is_local, without_credentials

if TYPE_CHECKING:
    from sentiflow.cluster.connection import Resources
    from sentiflow.tracking.experiment_store import Store
    from sentiflow.tracking.recording import Recorder

log = logging.getLogger(__name__)

Verb = Literal["prepare", "train", "score", "evaluate", "trends", "sweep"]

VERBS: tuple[Verb, ...] = RUN_STAGES
"""The stages of a whole run, in their order."""

_MODULES: dict[Verb, str] = {
    "prepare": "sentiflow.preparation.prepare",
    "train": "sentiflow.training.train",
    "score": "sentiflow.scoring.score",
    "evaluate": "sentiflow.evaluation.evaluate",
    "trends": "sentiflow.shares.trends",
    "sweep": "sentiflow.training.sweep",
}
"""The module of each stage, with its functions ``resolve`` and ``run``."""
_MAX_PLANS = 3
"""Number of tries to plan a stage, in case of I/O errors. The address of a store may be wrong, so
these are few."""
_NEED_RAY = ("prepare", "train", "score", "sweep")
"""Stages whose ``run`` takes the resources of Ray."""


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
    verbs = _leave_out_evaluation(config, verbs)
    outcomes = []
    with _Session(config, verbose=verbose, command=command) as session:
        for number in range(len(verbs)):
            outcome = _complete_stage(
                session, verbs[number:], overwrite=overwrite, is_whole_run=is_whole_run
            )
            outcomes.append(outcome)
    return outcomes


def _complete_stage(
    session: "_Session", remaining: Sequence[Verb], *, overwrite: bool, is_whole_run: bool
) -> Outcome:
    """Run the first remaining stage, unless its result is complete."""
    verb = remaining[0]

    def check(output: Output | None = None) -> None:
        session.check_inputs(remaining, output, overwrite=overwrite)

    if read_result(getattr(session.config, verb).output_uri) is None:
        check()  # the stage will run, and its plan reads what is checked here
    with Progress(verb, what="looking at the inputs"):
        planned = _plan_stage(verb, session.config)
    session.config = planned.config
    spec = planned.spec
    if overwrite:
        spec = spec.to_replace()
    else:
        for note in spec.notes:
            say(verb, note)
    with (
        session.taking_reserved(verb) as held,
        outputs.open_output(
            spec, overwrite=overwrite, user=session.user, before=check, held=held
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


@dataclass(frozen=True)
class Plan:
    """What :func:`run` would do."""

    lines: list[str]
    """What would become of each stage, and the time and memory that it would take."""
    refusal: UserError | None
    """The error with which the run would end at a result that only ``overwrite`` replaces."""


def plan(config: Config, verbs: Sequence[Verb], *, overwrite: bool = False) -> Plan:
    """Foresee what :func:`run` would do.

    Raises:
        UserError: Input or settings are wrong, or a directory has foreign files or, unless it is
            overwritten, a result in the format of another version.
    """
    from sentiflow.pipeline import estimates

    lines = []
    refusal = None
    state = "complete"
    resources: Resources | None = None
    verbs = _leave_out_evaluation(config, verbs)
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
        _check_inputs(config, remaining, overwrite=overwrite)
    planned = _plan_stage(verb, config)
    config = planned.config
    spec = planned.spec
    status = find_status(spec.to_replace() if overwrite else spec)
    if not is_new and status.state != "complete":
        new_files = None
        if status.state == "extended" and status.record and spec.grows:
            new_files = spec.find_new(status.record)
        _check_inputs(config, remaining, new_files, overwrite=overwrite)
    return status, config


def _list_replaced(status: Status) -> list[UnfinishedRun]:
    """List the unfinished runs whose work is of no use, as their settings differ."""
    return [run for run in status.unfinished if run.changes]


def _take_over(verb: Verb, output: Output, recorder: "Recorder") -> None:
    """Say what a stage replaces, and end the runs of killed jobs whose work it takes over."""
    status = output.status
    if status.problem:
        say(verb, f"replaces {display_uri(output.spec.uri)}, which {status.problem}")
    else:
        for run in _list_replaced(status):
            say(verb, f"replaces {run}")
    output.mlflow_run_id = recorder.run_id
    for run in status.unfinished:
        run_id = run.description.get("mlflow_run_id", "")
        recorder.end_killed(run_id, output.spec)


def _describe_status(status: Status, overwrite: bool) -> str:
    """Say what a stage would do with its output."""
    if status.state == "new":
        action = "would run (an earlier run did not finish)" if status.run else "would run"
        replaced = [str(run) for run in _list_replaced(status)]
        return " and replace ".join([action, *replaced])
    if status.state == "extended":
        return "would add what is new"
    if status.state == "other":
        action = "would replace" if overwrite else "needs --overwrite"
        return f"{action}: it {status.problem}"
    return "complete"


def _leave_out_evaluation(config: Config, verbs: Sequence[Verb]) -> Sequence[Verb]:
    """Leave out the evaluation of a refit in a whole run, if no test row is left."""
    is_refit = config.train.refit and config.score.reads_prepared
    if tuple(verbs) != VERBS or not is_refit:
        return verbs
    prepared = manifest.read(config.score.prepared_uri)
    if prepared and manifest.has_given_test(prepared):
        return verbs
    say(
        "evaluate",
        "left out: a refit is trained on every labelled row; sentiflow card describes it",
    )
    return VERBS[:-1]  # the evaluation is the last stage


def _check_inputs(
    config: Config,
    verbs: Sequence[Verb],
    new_files: Sequence[str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Check the inputs and outputs of stages, before the first of them runs.

    Args:
        config: The experiment.
        verbs: The stages.
        new_files: If the first stage extends its result: the files that are new to it. Known files
            are not opened again.
        overwrite: Whether existing results may be replaced.
    """
    from sentiflow.pipeline.preflight import config_checks  # only if a stage has to run

    with Progress(verbs[0], what="checking the inputs"):
        config_checks.require(config, verbs, new_files=new_files, overwrite=overwrite)


def _import_stage(verb: Verb) -> ModuleType:
    """Import the module of a stage."""
    return importlib.import_module(_MODULES[verb])


class StagePlan(Protocol):
    """A stage as it will run: everything that its settings refer to, looked up once."""

    @property
    def config(self) -> Config:
        """The experiment. In a refit the section ``train`` is that of the run to repeat."""

    @property
    def spec(self) -> OutputSpec:
        """The output, with the settings and inputs that decide it."""


def _plan_stage(verb: Verb, config: Config) -> StagePlan:
    """Look up what the settings of a stage refer to; the stage runs by this plan."""
    module = _import_stage(verb)

    def resolve() -> StagePlan:
        planned: StagePlan = module.resolve(config)
        return planned

    return retries.repeat_after_io_errors(
        resolve, place=f"the inputs of {verb}", max_failures=_MAX_PLANS
    )


def _run_stage(
    planned: StagePlan,
    remaining: Sequence[Verb],
    output: Output,
    recorder: "Recorder",
    session: "_Session",
) -> Manifest:
    """Run the first remaining stage; return its manifest."""
    verb = remaining[0]
    config = planned.config
    recorder.log_settings(run_contents.describe_settings(planned, verb))
    options: dict[str, Resources] = {}
    if verb in _NEED_RAY:
        resources = options["resources"] = _wait_for_ray(planned, remaining, output, session)
        uri = getattr(config, verb).output_uri
        if is_local(uri) and not resources.is_one_machine:
            from sentiflow.cluster import nodes

            nodes.check_shared(f"{verb}.output_uri", uri)
    record: Manifest = _import_stage(verb).run(planned, output, recorder, **options)
    return record


def _wait_for_ray(
    planned: StagePlan, remaining: Sequence[Verb], output: Output, session: "_Session"
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
    session: "_Session",
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


class _Session(contextlib.ExitStack):
    """Ray and the tracking store, each opened by the first stage that needs it."""

    def __init__(self, config: Config, *, verbose: bool, command: WrittenCommand | None) -> None:
        from sentiflow.tracking import mlflow_store

        super().__init__()
        self.config = config
        """The settings; each stage may resolve more of them."""
        self.verbose = verbose
        self.command = command
        self.store_uri = mlflow_store.default_uri(config.tracking.uri)
        self.user = submitter.find(config.tracking.user)
        """The person who runs this command."""
        self.group = secrets.token_hex(4)
        """Id of this command in the tags of its runs."""
        self.load_percent = machine_load.find()
        """Load of this machine by other processes when the command began."""
        self.has_told_sum = False
        """Whether the time of all stages was told, or could have been."""
        self.resources: Callable[[], Resources] | None = None
        """Waits for Ray, and counts its resources; None until a stage needs Ray."""
        self._has_checked = False
        """Whether the inputs were checked; this is done once, before the first stage runs."""
        self._reserved: dict[Verb, tuple[contextlib.ExitStack, lease.Held]] = {}
        """The lease on the output of each later stage, and what releases it."""

    def check_inputs(
        self, remaining: Sequence[Verb], output: Output | None, *, overwrite: bool
    ) -> None:
        """Check the inputs and outputs of the remaining stages; do nothing in later calls.

        Args:
            remaining: The stages that are not complete or not looked at yet.
            output: The output of the first of them, if it is known.
            overwrite: Whether existing results may be replaced.
        """
        if self._has_checked:
            return
        self._has_checked = True
        with Progress(remaining[0], what="looking for new files"):
            new_files = None
            if output and output.previous and output.spec.grows:
                new_files = output.spec.find_new(output.previous)
            _check_inputs(self.config, remaining, new_files, overwrite=overwrite)

    def reserve(self, verbs: Sequence[Verb]) -> None:
        """Lock the outputs of later stages, so that no other job takes one between two stages.

        Raises:
            JobError: Another job works in one of these directories.
        """
        for verb in verbs:
            if verb not in self._reserved:
                uri = getattr(self.config, verb).output_uri
                stack = self.enter_context(contextlib.ExitStack())
                held = stack.enter_context(outputs.reserve(uri, stage=verb, user=self.user))
                self._reserved[verb] = stack, held

    @contextlib.contextmanager
    def taking_reserved(self, verb: Verb) -> Iterator[lease.Held | None]:
        """Give the lease that was reserved for a stage, if any; release it when the stage ends."""
        stack, held = self._reserved.pop(verb, (contextlib.ExitStack(), None))
        with stack:
            yield held

    def start_ray(self, verbs: Sequence[Verb]) -> None:
        """Start Ray or connect to it in the background, if the first of these stages needs it."""
        if verbs[0] in _NEED_RAY and self.resources is None:
            from sentiflow.cluster import connection

            trains = "train" in verbs or "sweep" in verbs
            starting = connection.starting(verbose=self.verbose, preloads_data=not trains)
            self.resources = self.enter_context(starting)

    @functools.cached_property
    def store(self) -> "Store":
        """The tracking store."""
        from sentiflow.tracking import experiment_store

        config = self.config
        try:
            return experiment_store.open_store(
                self.store_uri,
                experiment=config.name,
                required=config.tracking.required,
                repair=self._write_import(),
            )
        except (PermissionDeniedError, UnavailableError) as error:
            raise type(error)(f"{error}; {experiment_store.WITHOUT}") from error

    def _write_import(self) -> str:
        """Write the command that adds the runs to the store later."""
        words = ["sentiflow", "tracking", "import", display_uri(self.config.output_uri)]
        if self.config.tracking.uri:
            words += ["--tracking-uri", without_credentials(self.config.tracking.uri)]
        return shlex.join(words)

    @contextlib.contextmanager
    def open_run(
        self, planned: StagePlan, remaining: Sequence[Verb], *, is_whole_run: bool
    ) -> Iterator["Recorder"]:
        """Open the MLflow run of the first remaining stage; log its command and its inputs.

        A ``trends`` with the same settings and output continues its run: its metrics get a new
        point for the new inputs.
        """
        from sentiflow.tracking import recording, run_names, runs

        verb = remaining[0]
        spec = planned.spec
        # Inputs of files are logged with the manifest: see Recorder.log_result.
        inputs = {name: value for name, value in spec.inputs.items() if "files" not in value}
        tags = {**self.config.tracking.tags, **runs.describe_code()}
        tags[runs.OUTPUT_TAG] = spec.uri
        tags |= runs.describe_lineage(inputs)
        params = runs.to_params(run_contents.describe_settings(planned, verb))
        changes = ""
        earlier = None
        if verb == "train" and not self.config.train.refit:
            changes = self.store.find_changes(params)
        if verb == "trends":
            earlier = self.store.find_earlier(verb, spec.uri, params)
        with recording.open_run(
            self.store,
            verb,
            group=self.group,
            user=self.user,
            tags=tags,
            name=run_names.name_run(verb, self.config, changes=changes),
            registers_model=registers_model(self.config, verb, is_whole_run=is_whole_run),
            earlier=earlier,
        ) as recorder:
            recorder.reserve_metrics(run_contents.list_figures(planned, remaining))
            text = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
            recorder.log_files(
                {runs.RESOLVED_FILE: without_credentials(text).encode()}, are_outputs=False
            )
            if self.command:
                recorder.log_command(self.command)
            profiles = run_contents.describe_inputs(inputs)
            recorder.keep_profiles(profiles)
            recorder.log_inputs(inputs, stage=spec.stage, profiles=profiles)
            yield recorder


def registers_model(config: Config, verb: Verb, *, is_whole_run: bool) -> bool:
    """Say whether a stage registers the model.

    With ``auto`` the evaluation of a whole run does, for a refit the training: it may have no
    evaluation. With True the training does, for an average the evaluation: it is not trained.
    """
    setting = config.tracking.register_model
    if setting == "auto":
        if config.train.refit:
            return verb == "train"
        return verb == "evaluate" and is_whole_run
    is_average = len(config.score.model_uris) > 1
    registering = "evaluate" if is_average else "train"
    return setting and verb == registering
