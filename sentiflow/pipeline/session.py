"""Ray, the tracking store, the MLflow runs and the leases of a command that runs stages.

Ray and MLflow are imported where they are needed, as each import takes a second or two.
"""

import contextlib
import functools
import secrets
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import yaml

from sentiflow.config import submitter
from sentiflow.config.sections import Config
from sentiflow.config.written import WrittenCommand
from sentiflow.data import outputs
from sentiflow.data.outputs import Output
from sentiflow.errors import PermissionDeniedError, UnavailableError
from sentiflow.pipeline import machine_load, run_contents, stage_plans
from sentiflow.pipeline.stage_plans import StagePlan, Verb
from sentiflow.progress import Progress
from sentiflow.storage import lease
from sentiflow.storage.uris import display_uri, without_credentials

if TYPE_CHECKING:
    from sentiflow.cluster.connection import Resources
    from sentiflow.tracking.experiment_store import Store
    from sentiflow.tracking.recorder import Recorder

NEED_RAY = ("prepare", "train", "score", "sweep")
"""Stages whose ``run`` takes the resources of Ray."""


class Session(contextlib.ExitStack):
    """Ray and the tracking store, each opened by the first stage that needs it."""

    def __init__(self, config: Config, *, verbose: bool, command: WrittenCommand | None) -> None:
        """Prepare for a command; ``verbose`` shows Ray's and MLflow's own messages."""
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
            stage_plans.check_inputs(self.config, remaining, new_files, overwrite=overwrite)

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
        if verbs[0] in NEED_RAY and self.resources is None:
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
