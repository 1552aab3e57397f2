"""Config -> the stages run in order, with Ray and MLflow; their manifests.

Stages, Ray and MLflow are imported where they are needed, as each import takes a second or two.
"""

import contextlib
import functools
import importlib
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol

import yaml

from sentiflow.config import submitter
from sentiflow.config.sections import Config
from sentiflow.data import manifest, outputs
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import Status, UnfinishedRun, find_status
from sentiflow.data.outputs import Output
from sentiflow.errors import PermissionDeniedError, UnavailableError
from sentiflow.pipeline.estimates import estimate
from sentiflow.progress import say
from sentiflow.storage import retries
from sentiflow.storage.uris import display_uri, is_local, without_credentials

if TYPE_CHECKING:
    from sentiflow.cluster.connection import Resources
    from sentiflow.tracking.experiment_store import Store
    from sentiflow.tracking.recording import Recorder

log = logging.getLogger(__name__)

Verb = Literal["prepare", "train", "score", "evaluate", "trends", "sweep"]

VERBS: tuple[Verb, ...] = ("prepare", "train", "score", "evaluate")
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


def whole_run(config: Config) -> tuple[Verb, ...]:
    """List the stages of a whole run; the training is left out if the config does not train."""
    if config.trains:
        return VERBS
    return tuple(verb for verb in VERBS if verb != "train")


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
    config: Config, verbs: Sequence[Verb], *, overwrite: bool = False, verbose: bool = False
) -> list[Outcome]:
    """Run stages in order; a complete stage is skipped, without Ray or a run in MLflow.

    Before the first stage runs, the inputs of this stage and of all later stages are checked.

    Raises:
        UserError: Input or settings are wrong, or a directory belongs to other settings.
        JobError: A stage failed.
    """
    outcomes = []
    is_whole = tuple(verbs) == whole_run(config)
    verbs = _leave_out_evaluation(config, verbs)
    remaining = verbs
    with _Session(config, verbose=verbose) as session:
        is_checked = False

        def check(output: Output | None = None) -> None:
            """Check the stages that remain when this is called first; then do nothing."""
            nonlocal is_checked
            if not is_checked:
                is_checked = True
                new_files = None
                if output and output.previous and output.spec.grows:
                    new_files = output.spec.find_new(output.previous)
                _check_inputs(session.config, remaining, new_files)

        for verb in verbs:
            remaining = verbs[verbs.index(verb) :]
            if manifest.read(getattr(config, verb).output_uri) is None:
                check()  # the stage will run, and its plan reads what is checked here
            planned = _plan_stage(verb, config)
            config = session.config = planned.config
            spec = planned.spec
            # With ``follows``, predictions by an earlier version of the model stay valid.
            strict = replace(spec, follows="")
            if overwrite:
                spec = spec.to_replace()
            else:
                for note in spec.notes:
                    say(verb, note)
            with outputs.open_output(
                spec, overwrite=overwrite, user=session.user, before=check
            ) as output:
                if output.is_complete and output.status.record:
                    say(verb, f"complete: {display_uri(spec.uri)}")
                    # ``strict`` counts predictions by earlier versions as changes.
                    for change in strict.find_changes(output.status.record):
                        say(verb, f"{change}: new files use it; --overwrite rescores all")
                    outcomes.append(Outcome(verb, spec.uri, output.status.record, ran=False))
                    continue
                session.start_ray(remaining)
                with session.open_run(spec, verb, is_whole_run=is_whole) as recorder:
                    _take_over(verb, output, recorder)
                    record = _run_stage(planned, remaining, output, recorder, session)
                    recorder.log_result(record)
                outcomes.append(Outcome(verb, spec.uri, record, ran=True))
    return outcomes


def plan(config: Config, verbs: Sequence[Verb], *, overwrite: bool = False) -> list[str]:
    """Say what :func:`run` would do, and the time and memory it would take; return lines."""
    lines = []
    state = "complete"
    verbs = _leave_out_evaluation(config, verbs)
    for number, verb in enumerate(verbs):
        uri = getattr(config, verb).output_uri
        if state == "complete":
            state, config = _find_state(config, verbs[number:], overwrite)
        else:
            state = f"after {verbs[number - 1]}"
        lines.append(f"# {verb:<9} {state}: {uri}")
        cost = "" if state == "complete" else estimate(verb, config)
        if cost:
            lines.append(f"#           {cost}")
    return lines


def _find_state(config: Config, remaining: Sequence[Verb], overwrite: bool) -> tuple[str, Config]:
    """Say what the first remaining stage would do; also return its resolved settings."""
    verb = remaining[0]
    is_new = manifest.read(getattr(config, verb).output_uri) is None
    if is_new:  # as in run: the plan reads what is checked here
        _check_inputs(config, remaining)
    planned = _plan_stage(verb, config)
    config = planned.config
    spec = planned.spec
    status = find_status(spec.to_replace() if overwrite else spec)
    if not is_new and status.state != "complete":
        new_files = None
        if status.state == "extended" and status.record and spec.grows:
            new_files = spec.find_new(status.record)
        _check_inputs(config, remaining, new_files)
    return _describe_status(status, overwrite), config


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
    config: Config, verbs: Sequence[Verb], new_files: Sequence[str] | None = None
) -> None:
    """Check the inputs of stages, before the first of them runs.

    Args:
        config: The experiment.
        verbs: The stages.
        new_files: If the first stage extends its result: the files that are new to it. Known files
            are not opened again.
    """
    from sentiflow.pipeline.preflight import config_checks  # only if a stage has to run

    config_checks.require(config, verbs, new_files=new_files)


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
    # A sweep changes settings of the section ``train``; other stages read texts or labels.
    other_section = "train" if verb == "sweep" else "format"
    settings = config.model_dump(mode="json", include={verb, other_section})
    recorder.log_settings(settings)
    options: dict[str, Resources] = {}
    if verb in _NEED_RAY:
        assert session.resources, "start_ray comes first"
        resources = options["resources"] = session.resources()
        # The estimate is for a whole corpus, on cores.
        if not (output.resumes or output.previous or resources.num_gpus):
            files = planned.spec.inputs.get("corpus", {}).get("files")
            line = estimate(verb, config, resources.num_cpus, corpus=files)
            if line:
                say(verb, line)
        uri = getattr(config, verb).output_uri
        if is_local(uri) and not resources.is_one_machine:
            from sentiflow.cluster import nodes

            nodes.check_shared(f"{verb}.output_uri", uri)
    record: Manifest = _import_stage(verb).run(planned, output, recorder, **options)
    return record


class _Session(contextlib.ExitStack):
    """Ray and the tracking store, each opened by the first stage that needs it."""

    def __init__(self, config: Config, *, verbose: bool) -> None:
        from sentiflow.tracking import mlflow_store

        super().__init__()
        self.config = config
        self.verbose = verbose
        self.store_uri = mlflow_store.default_uri(config.tracking.uri)
        self.user = submitter.find(config.tracking.user)
        """The person who runs this command."""
        self.group = secrets.token_hex(4)
        """Id of this command in the tags of its runs."""
        self.resources: Callable[[], Resources] | None = None
        """Waits for Ray, and counts its resources; None until a stage needs Ray."""

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
                repair=f"sentiflow tracking import {display_uri(config.output_uri)}",
            )
        except (PermissionDeniedError, UnavailableError) as error:
            raise type(error)(f"{error}; {experiment_store.WITHOUT}") from error

    @contextlib.contextmanager
    def open_run(self, spec: OutputSpec, verb: Verb, *, is_whole_run: bool) -> Iterator["Recorder"]:
        """Open the stage's MLflow run, and log its settings and inputs."""
        from sentiflow.tracking import recording, runs

        # Inputs of files are logged with the manifest: see Recorder.log_result.
        inputs = {name: value for name, value in spec.inputs.items() if "files" not in value}
        tags = {**self.config.tracking.tags, **runs.describe_code()}
        tags[runs.OUTPUT_TAG] = spec.uri
        tags |= runs.describe_lineage(inputs)
        changes = ""
        if verb == "train" and not self.config.train.refit:
            changes = self.store.find_changes(self.config.train)
        with recording.open_run(
            self.store,
            verb,
            group=self.group,
            user=self.user,
            tags=tags,
            name=runs.name_run(verb, self.config, changes=changes),
            registers_model=registers_model(self.config, verb, is_whole_run=is_whole_run),
        ) as recorder:
            text = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
            recorder.log_files(
                {"settings.yaml": without_credentials(text).encode()}, are_outputs=False
            )
            recorder.log_inputs(inputs, stage=spec.stage)
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
