"""Config -> Ray started, a tracked run, the stages in order, an exit code."""

import contextlib
import secrets
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from sentiflow import (
    __version__,
    cluster,
    evaluation,
    manifest,
    preparation,
    scoring,
    tracking,
    training,
)
from sentiflow.manifest import State
from sentiflow.progress import say
from sentiflow.sections import Config
from sentiflow.tracking import Recorder
from sentiflow.uris import as_typed

Verb = Literal["prepare", "train", "score", "evaluate"]

VERBS: tuple[Verb, ...] = ("prepare", "train", "score", "evaluate")

_CLAIMS: dict[Verb, Any] = {
    "prepare": preparation.claim,
    "train": training.claim,
    "score": scoring.claim,
    "evaluate": evaluation.claim,
}


@dataclass(frozen=True)
class Outcome:
    """What became of one stage."""

    verb: Verb
    uri: str
    record: dict[str, Any]
    """The stage's manifest."""
    ran: bool
    """False if it was complete already."""


@dataclass(frozen=True)
class Plan:
    """What a stage would do, for ``--dry-run``."""

    verb: Verb
    uri: str
    state: str
    """``complete``, ``would run``, or why it could not."""


def run(
    config: Config, verbs: Sequence[Verb], *, overwrite: bool = False, verbose: bool = False
) -> list[Outcome]:
    """Do stages in order; those that are complete are skipped, and start nothing.

    Raises:
        UserError: Input or settings are wrong, or a directory belongs to other settings.
        JobError: A stage failed.
    """
    outcomes = []
    for verb in verbs:
        manifest.check_place(verb, getattr(config, verb).output_uri)
    with _Session(config, verbose=verbose) as session, _sigterm_ends():
        for verb in verbs:
            claim = _CLAIMS[verb](config)
            if manifest.look(claim).state is State.COMPLETE:
                record = manifest.read(claim.uri)
                assert record is not None, "a complete directory has a manifest"
                say(verb, f"complete: {as_typed(claim.uri)}")
                outcomes.append(Outcome(verb, claim.uri, record, ran=False))
                continue
            manifest.check(claim, overwrite=overwrite)
            with session.recorder(verb) as recorder:
                record = _run_stage(verb, config, recorder, session, overwrite)
                recorder.set_tags({"sentiflow.fingerprint": record["fingerprint"]})
            outcomes.append(Outcome(verb, claim.uri, record, ran=True))
    return outcomes


def plan(config: Config, verbs: Sequence[Verb], *, overwrite: bool = False) -> list[Plan]:
    """Say what :func:`run` would do, without doing it."""
    plans: list[Plan] = []
    for verb in verbs:
        uri = getattr(config, verb).output_uri
        if plans and plans[-1].state != "complete":
            plans.append(Plan(verb, uri, f"after {plans[-1].verb}"))
            continue
        claim = _CLAIMS[verb](config)
        found = manifest.look(claim)
        states = {
            State.COMPLETE: "complete",
            State.ABSENT: "would run",
            State.UNFINISHED: "would run (an earlier run did not finish)",
            State.FOREIGN: "cannot run: the directory holds other files",
            State.DIFFERENT: f"{'would replace' if overwrite else 'needs --overwrite'}: "
            + ", ".join(found.differences),
        }
        plans.append(Plan(verb, uri, states[found.state]))
    return plans


def _run_stage(
    verb: Verb, config: Config, recorder: Recorder, session: "_Session", overwrite: bool
) -> dict[str, Any]:
    recorder.log_settings(_tracked_settings(config, verb))
    if verb == "evaluate":
        return evaluation.run(config, recorder, overwrite=overwrite)
    resources = session.resources()
    if verb == "prepare":
        return preparation.run(config, recorder, overwrite=overwrite)
    stage = training if verb == "train" else scoring
    return stage.run(config, recorder, resources=resources, overwrite=overwrite)


def _tracked_settings(config: Config, verb: Verb) -> dict[str, Any]:
    return config.model_dump(mode="json", include={"format", verb})


class _Session(contextlib.ExitStack):
    """Ray and the tracking store, each opened when a stage first needs it."""

    def __init__(self, config: Config, *, verbose: bool) -> None:
        super().__init__()
        self.config, self.verbose = config, verbose
        self.group = secrets.token_hex(4)
        self._resources: cluster.Resources | None = None
        self._store: tracking.Store | None = None

    def resources(self) -> cluster.Resources:
        """Start Ray, or connect to it."""
        if self._resources is None:
            self._resources = self.enter_context(cluster.started(verbose=self.verbose))
        return self._resources

    @contextlib.contextmanager
    def recorder(self, verb: Verb) -> Iterator[Recorder]:
        """Open the stage's MLflow run."""
        if self._store is None:
            self._store = tracking.open_store(
                tracking.default_uri(self.config.tracking.uri),
                experiment=self.config.name,
                required=self.config.tracking.required,
            )
        tags = {"sentiflow.version": __version__}
        with self._store.run(verb, group=self.group, tags=tags) as recorder:
            text = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
            recorder.log_files({"settings.yaml": text.encode()})
            yield recorder


@contextlib.contextmanager
def _sigterm_ends() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that the MLflow run ends as killed and Ray is stopped."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not in the main thread, where no signal arrives
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
