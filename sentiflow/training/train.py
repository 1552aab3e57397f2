"""Encoded Parquet -> checkpoints, metrics, a model package."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiflow.cluster import connection
from sentiflow.cluster.resources import Resources, count_train_workers
from sentiflow.config.sections import Config, TrainSettings
from sentiflow.data import manifest
from sentiflow.data.manifest import OutputSpec
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.training import task, workers
from sentiflow.training.checkpoints import FOLDER as CHECKPOINTS
from sentiflow.training.task import MODEL, PRETRAIN, TRAIN, Job

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

STAGE = "train"
CURVE = "plots/training_curve.png"
RAY_RECORDS = "ray"
"""Where Ray Train keeps its own records while it runs."""
OWNS = (MODEL, CHECKPOINTS, "plots", RAY_RECORDS)

_RECORD_EVERY_SECONDS = 5.0
_PREFIX = {PRETRAIN: "pretraining ", TRAIN: ""}
_FOLDER = {PRETRAIN: "pretrain/", TRAIN: ""}
"""Of the names in MLflow."""
_NOT_DECISIVE = {
    *("prepared_uri", "output_uri", "checkpoints"),
    *("num_workers", "min_workers", "cpus_per_worker", "gpus_per_worker", "max_failures"),
}


def describe_output(config: Config) -> OutputSpec:
    """Say what training would make.

    Raises:
        UserError: The prepared data are not there, or not complete; or the model to start from.
    """
    settings = config.train
    record = manifest.require(settings.prepared_uri, stage="prepare", setting="train.prepared_uri")
    decisive = settings.model_dump(exclude=_NOT_DECISIVE | {"init_from"})
    inputs = {"prepared": manifest.reference(settings.prepared_uri, record)}
    if settings.init_from is not None:
        first = manifest.require(settings.init_from, stage="model", setting="train.init_from")
        inputs["init_from"] = manifest.reference(settings.init_from, first)
    return OutputSpec(STAGE, settings.output_uri, decisive, inputs, owns=OWNS)


def run(
    config: Config, recorder: "Recorder", *, resources: Resources, overwrite: bool
) -> dict[str, Any]:
    """Train a model and publish its package, or go on where an earlier run of the same was killed.

    Returns:
        The manifest.

    Raises:
        UserError: The data cannot be trained on.
        JobError: A loss is not finite, or workers died too often; checkpoints are kept.
    """
    began = time.monotonic()
    target = describe_output(config)
    num_workers, resources = _make_room(config, resources)
    cpus = config.train.cpus_per_worker
    gpus = resources.gpus_per_train_worker(config.train.gpus_per_worker)
    manifest.begin(target, overwrite=overwrite, resumable=True, key=target.fingerprint)
    prepared_uri = config.train.prepared_uri
    job = Job(
        settings=config.train,
        prepared=manifest.require(prepared_uri, stage="prepare", setting="train.prepared_uri"),
        lineage=target.inputs
        | {"training": {"uri": target.uri, "fingerprint": target.fingerprint}},
        num_threads=resources.threads_per_train_worker(num_workers, cpus),
        on_gpu=gpus > 0,
    )
    say(STAGE, _announce(job, num_workers))
    num_epochs = config.train.pretrain.num_epochs + config.train.num_epochs
    total = _count_train_rows(job.prepared) * num_epochs
    with Progress(STAGE, total=total, unit="tweets") as progress, recorder.watching_system():
        audience = _Audience(progress, recorder, config.train, num_workers)
        outcome = workers.train(
            task.run,
            job,
            num_workers=num_workers,
            min_workers=config.train.min_workers,
            cpus_per_worker=resources.cpus_per_train_worker(num_workers, cpus),
            gpus_per_worker=gpus,
            resources=resources,
            storage_path=join(target.uri, RAY_RECORDS),
            max_failures=config.train.max_failures,
            max_wait_seconds=60 * config.cluster.max_wait_minutes,
            on_post=audience.take,
        )
    if "problem" in outcome:
        manifest.roll_back(target)
        raise UserError(outcome["problem"])
    if "failure" in outcome:
        raise JobError(outcome["failure"])
    registered = _register(config, recorder)
    seconds = time.monotonic() - began
    return _publish(target, job, outcome, recorder, audience.num_workers, seconds, registered)


def _register(config: Config, recorder: "Recorder") -> dict[str, Any] | None:
    """Register the package as candidate, if there is a run to register it from.

    Where the store is unavailable, that is done later from the manifest.
    """
    if not config.tracking.register_model or not recorder.run_id or not recorder.flush():
        return None
    from sentiflow.tracking import registry

    try:
        version = registry.register(
            join(config.train.output_uri, MODEL),
            name=config.name,
            tracking_uri=recorder.tracking_uri,
            run_id=recorder.run_id,
        )
    except UnavailableError as error:
        recorder.note_unavailable(error)
        return None
    say(STAGE, f"registered: {version} ({registry.CANDIDATE})")
    return {"name": version.name, "version": version.number}


def _publish(
    target: OutputSpec,
    job: Job,
    outcome: dict[str, Any],
    recorder: "Recorder",
    num_workers: int,
    seconds: float,
    registered: dict[str, Any] | None,
) -> dict[str, Any]:
    from sentiflow import plotting  # it takes a second, which a training that fails need not spend

    history, package = outcome["history"], outcome["package"]
    rate = float(np.median([epoch["tweets_per_second"] for epoch in history]))
    figures = {"train/seconds": seconds, "train/tweets_per_second": rate}
    if package["calibration"]:
        figures["train/temperature"] = package["calibration"]["temperature"]
    recorder.log_metrics(figures)
    curve = plotting.render_training_curve(history)
    filesystem.write_bytes(join(target.uri, CURVE), curve)
    recorder.log_files({CURVE: curve})
    return manifest.publish(
        target,
        counts={
            "rows": _count_train_rows(job.prepared),
            "rows_without_token": outcome["rows_without_token"],
            "epochs": len(history),
            "parameters": package["counts"]["parameters"],
        },
        files=[
            item for name in (MODEL, CHECKPOINTS, "plots")
            for item in manifest.list_files(target.uri, name)
        ],
        seconds=seconds,
        pretraining=outcome["pretraining"],
        history=history,
        chosen_epoch=outcome["chosen_epoch"],
        model_fingerprint=package["fingerprint"],
        mlflow_run_id=recorder.run_id,
        registered=registered,
        num_workers=num_workers,
        device=outcome["device"],
        precision=outcome["precision"],
    )  # fmt: skip


def _make_room(config: Config, resources: Resources) -> tuple[int, Resources]:
    """Count the workers and, where nodes may come, wait for those that are missing.

    Returns:
        The number of workers, and what the cluster has then.
    """
    settings = config.train
    num_workers = count_train_workers(settings, resources)
    if not resources.may_grow:
        return num_workers, resources
    need = {
        "CPU": 1 if settings.cpus_per_worker == "auto" else int(settings.cpus_per_worker),
        "GPU": resources.gpus_per_train_worker(settings.gpus_per_worker),
    }
    patience = 60 * config.cluster.max_wait_minutes
    room = connection.Capacity(need, times=num_workers, max_wait_seconds=patience)
    return num_workers, room.wait_for_nodes()


def _announce(job: Job, num_workers: int) -> str:
    return (
        f"{job.settings.model.summary}; {job.prepared['counts']['vocabulary_size']:,} words, "
        f"{_count_train_rows(job.prepared):,} tweets, "
        f"{_workers(num_workers)}"
    )


def _workers(number: int) -> str:
    return f"{number} worker{'s' if number > 1 else ''}"


def _count_train_rows(prepared: Manifest) -> int:
    labels = prepared["counts"]["labels"]["train"]
    return int(labels["negative"] + labels["positive"])


class _Audience:
    """Shows and records what rank 0 posts; what comes twice, after a worker's death, only once."""

    def __init__(
        self,
        progress: Progress,
        recorder: "Recorder",
        settings: TrainSettings,
        expected_workers: int,
    ) -> None:
        self.progress, self.recorder = progress, recorder
        self.num_epochs = {PRETRAIN: settings.pretrain.num_epochs, TRAIN: settings.num_epochs}
        self.epochs_seen: set[tuple[str, int]] = set()
        self.step_seen = 0
        self.expected_workers, self.num_workers = expected_workers, 0
        self.unrecorded: list[tuple[int, Mapping[str, float | None]]] = []
        self.recorded = time.monotonic()

    def take(self, posted: dict[str, Any]) -> None:
        """Take one of the posts of :func:`train_task.run`."""
        if posted["kind"] == "begins":
            self._begin(posted)
        elif posted["kind"] == "epoch":
            self._show_epoch(posted["phase"], posted["result"])
        elif posted["step"] > self.step_seen:
            self._show_step(posted)
        self.step_seen = max(self.step_seen, posted["step"])

    def _begin(self, posted: dict[str, Any]) -> None:
        before, self.num_workers = self.num_workers, posted["num_workers"]
        if before:
            why = "there is room for more" if self.num_workers > before else "workers were lost"
            say(STAGE, f"{why}; going on from {_place(posted)}, {_workers(self.num_workers)}")
            return
        if self.num_workers < self.expected_workers:
            say(STAGE, f"begins with {_workers(self.num_workers)}: there is no room for more now")
        self.progress.start_at(posted["rows_done"])
        if posted["step"]:
            say(STAGE, f"goes on: {_place(posted)}")
            for phase, name in ((PRETRAIN, "pretraining"), (TRAIN, "history")):
                for result in posted[name]:
                    self.epochs_seen.add((phase, result["epoch"]))
                    self._record_epoch(phase, result)

    def _show_step(self, posted: dict[str, Any]) -> None:
        phase = posted["phase"]
        note = (
            f"{_PREFIX[phase]}epoch {posted['epoch'] + 1} of {self.num_epochs[phase]}, "
            f"step {posted['step']:,} of {posted['num_steps']:,}, "
            f"loss {posted['loss']:.3f}, accuracy {posted['accuracy']:.3f}"
        )
        self.progress.advance(posted["rows_done"] - self.progress.done, note=note)
        names = ("loss", "accuracy", "tweets_per_second", "learning_rate", "gradient_norm",
                 "padding_fraction")  # fmt: skip
        figures = {f"{_FOLDER[phase]}step/{name}": posted[name] for name in names}
        self.unrecorded.append((posted["step"], figures))
        if time.monotonic() - self.recorded >= _RECORD_EVERY_SECONDS:
            self._record()

    def _show_epoch(self, phase: str, result: dict[str, Any]) -> None:
        if (phase, result["epoch"]) in self.epochs_seen:
            return
        self.epochs_seen.add((phase, result["epoch"]))
        accuracy = result["validation_accuracy"]
        known = "" if accuracy is None else f", validation accuracy {accuracy:.4f}"
        say(
            STAGE,
            f"{_PREFIX[phase]}epoch {result['epoch']}: loss {result['train_loss']:.4f}{known} "
            f"({result['seconds']:.1f} s, {result['tweets_per_second']:,.0f} tweets/s)",
        )
        self._record()
        self._record_epoch(phase, result)

    def _record(self) -> None:
        self.recorder.log_series(self.unrecorded)
        self.unrecorded, self.recorded = [], time.monotonic()

    def _record_epoch(self, phase: str, result: dict[str, Any]) -> None:
        if phase == PRETRAIN:
            figures = {"pretrain/loss": result["train_loss"]}
            figures["pretrain/epoch_seconds"] = result["seconds"]
        else:
            figures = name_figures(result)
        self.recorder.log_metrics(figures, step=result["epoch"])


def name_figures(epoch: Mapping[str, Any]) -> dict[str, float | None]:
    """Name the figures of an epoch, a :class:`trainer.EpochResult`, as MLflow has them."""
    return {
        "train/loss": epoch["train_loss"],
        "train/accuracy": epoch["train_accuracy"],
        "validation/loss": epoch["validation_loss"],
        "validation/accuracy": epoch["validation_accuracy"],
        "train/learning_rate": epoch["learning_rate"],
        "train/gradient_norm": epoch["gradient_norm"],
        "train/padding_fraction": epoch["padding_fraction"],
        "train/tweets_per_second": epoch["tweets_per_second"],
        "train/epoch_seconds": epoch["seconds"],
    }


def _place(posted: dict[str, Any]) -> str:
    """Say where in a training a checkpoint stands."""
    epoch = f"{_PREFIX[posted['phase']]}epoch {posted['epoch'] + 1}"
    return f"step {posted['step']:,} of {posted['num_steps']:,}, in {epoch}"
