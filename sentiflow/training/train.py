"""Encoded Parquet -> checkpoints, metrics, a model package.

What imports torch is imported when the training runs, as it can be while Ray starts.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sentiflow.cluster import connection
from sentiflow.cluster.resources import Resources
from sentiflow.config.classes import BINARY
from sentiflow.config.sections import Config
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import FileEntry, Input, Manifest, ModelInput
from sentiflow.data.outputs import Output, OutputSpec
from sentiflow.data.schema import SPLITS
from sentiflow.models import package_files
from sentiflow.progress import Progress, say
from sentiflow.storage.uris import as_typed, join
from sentiflow.tracking import model_sources, refits
from sentiflow.training import classes, publishing, worker_count
from sentiflow.training.callback import TrainCallback, count_workers
from sentiflow.training.results import (
    CHECKPOINTS,
    FOLDS,
    MODEL,
    PRETRAIN,
    TAUGHT,
    TRAIN,
    Event,
    Taught,
    TrainReport,
)

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder
    from sentiflow.training.task import TrainJob

STAGE = "train"
RAY_RECORDS = "ray"
"""Folder of Ray's own files while it runs."""
OWNS = (MODEL, CHECKPOINTS, TAUGHT, FOLDS, "plots")


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of a training.

    Raises:
        UserError: The prepared data, the model to start from, or the run to repeat are missing or
            incomplete, or the data have no row of a class to learn, or none that ``patience``
            needs.
    """
    config, repeated = refits.apply(config)
    settings = config.train
    record = manifest.require(settings.prepared_uri, stage="prepare", setting="train.prepared_uri")
    learned = classes.choose(record, settings)
    if not repeated:
        classes.check_patience(settings, record, learned)
        classes.check_folds(settings, record)
    decisive = settings.dump_decisive()
    del decisive["distill"]
    inputs: dict[str, Any] = {"prepared": manifest.reference(settings.prepared_uri, record)}
    if settings.init_from is not None:
        first = _describe_first(config)
        package_files.check_first(first, settings.model, learned.names)
        inputs["init_from"] = {name: first[name] for name in ("uri", "fingerprint", "training")}
    if repeated:
        repeated.check_first(inputs.get("init_from"))
        inputs["refit"] = repeated.input
    if settings.distill.teachers:
        decisive["distill"] = settings.distill.model_dump(exclude={"teachers"})
        inputs |= model_sources.describe_teachers(config, learned.names)
    return OutputSpec(STAGE, settings.output_uri, decisive, inputs, owns=OWNS)


def _describe_first(config: Config) -> ModelInput:
    """Describe the model that ``train.init_from`` names."""
    return model_sources.describe(
        config.train.init_from or "", tracking=config.tracking.uri, setting="train.init_from"
    )


def _fetch_first(config: Config, output: Output, learned: classes.LearnedClasses) -> TrainSettings:
    """Return the settings with a directory of the first model; say what of it is reinitialized."""
    settings = config.train
    if settings.init_from is None:
        return settings
    first = _describe_first(config)
    say(STAGE, f"starting from {as_typed(first['uri'])}")
    for note in package_files.check_first(first, settings.model, learned.names):
        say(STAGE, note)
    uri = model_sources.download(
        first, to=join(output.uri, "downloaded"), tracking=config.tracking.uri
    )
    return settings.model_copy(update={"init_from": uri})


def run(
    config: Config,
    output: Output,
    recorder: "Recorder",
    *,
    resources: Resources,
    taught: Taught | None = None,
) -> Manifest:
    """Train a model and publish its package, or resume an interrupted training.

    Args:
        config: The experiment.
        output: The output of the training.
        recorder: Its run in MLflow.
        resources: The cluster.
        taught: The answers of the teachers, if a sweep has asked them.

    Returns:
        The manifest.

    Raises:
        UserError: The data cannot be trained on.
        JobError: A loss is not finite, or workers died too often. The checkpoints are kept.
    """
    from sentiflow.training import task

    began = time.monotonic()
    config, repeated = refits.apply(config)
    splits = repeated.splits if repeated else SPLITS[:1]
    spec, uri = output.spec, config.train.prepared_uri
    training: Input = {"uri": spec.uri, "fingerprint": spec.fingerprint}
    record = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    learned = classes.choose(record, config.train, splits)
    num_workers, why = worker_count.choose(config.train, record, learned, resources)
    if resources.may_grow:
        resources = _wait_for_nodes(config, resources, num_workers)
    output.begin()
    if config.train.distill.teachers and taught is None:
        from sentiflow.training import distillation

        taught = distillation.teach(config, output, inputs=spec.inputs, resources=resources)
    job = task.TrainJob(
        settings=_fetch_first(config, output, learned),
        checkpoints_uri=publishing.locate_checkpoints(output),
        model_uri=join(output.uri, MODEL),
        claim=output.claim,
        prepared=record,
        lineage=spec.inputs | {"training": training},
        num_threads=resources.threads_per_train_worker(num_workers, config.train.cpus_per_worker),
        on_gpu=resources.gpus_per_train_worker(config.train.gpus_per_worker) > 0,
        taught=taught.files if taught else None,
        splits=splits,
        refit=repeated,
    )
    note = repeated.describe(int(learned.counts.sum())) if repeated else ""
    num_rows = _count_rows(job, learned)
    _announce(job, learned, [note, why], num_workers=num_workers)
    report, num_workers = _train(config, output, recorder, job, learned, resources, num_workers)
    answers = [*(taught.entries if taught else ())]
    if config.train.folds and not repeated:
        answers += _train_folds(config, output, job, learned, resources)
    more: dict[str, Any] = {"taught": taught.describe()} if taught else {}
    more |= {"refit": repeated.record} if repeated else {}
    registered = publishing.register(config, output, recorder, note)
    more |= {"num_workers": num_workers, "registered": registered}
    seconds = time.monotonic() - began
    return publishing.publish(
        output, report, recorder, num_rows=num_rows, seconds=seconds, further_files=answers, **more
    )


def _count_rows(job: "TrainJob", learned: classes.LearnedClasses) -> int:
    """Count the rows of an epoch."""
    return int(learned.counts.sum()) if job.taught is None else sum(job.taught.values())


def _announce(
    job: "TrainJob", learned: classes.LearnedClasses, notes: Sequence[str], *, num_workers: int
) -> None:
    """Say what is trained: the network, rows, workers, classes; empty notes are left out."""
    say(
        STAGE,
        f"{job.settings.model.summary}; {job.prepared['counts']['vocabulary_size']:,} words, "
        f"{_count_rows(job, learned):,} tweets, {count_workers(num_workers)}",
    )
    for note in filter(None, notes):
        say(STAGE, note)
    if learned.names != BINARY:
        say(STAGE, f"classes: {learned.describe()}")


def _train(
    config: Config,
    output: Output,
    recorder: "Recorder",
    job: "TrainJob",
    learned: classes.LearnedClasses,
    resources: Resources,
    num_workers: int,
) -> tuple[TrainReport, int]:
    """Let workers train, and show how far they are.

    Returns:
        The report of the first worker, and the number of workers at the end.

    Raises:
        UserError: The data cannot be trained on; an output without a checkpoint is removed.
        JobError: A loss is not finite, or workers died too often.
    """
    settings = config.train
    num_pretrained = int(learned.counts.sum()) + classes.count_unlabelled(job.prepared)
    total = (
        _count_rows(job, learned) * job.num_epochs[TRAIN]
        + num_pretrained * job.num_epochs[PRETRAIN]
    )
    with (
        Progress(STAGE, total=total, unit="tweets") as progress,
        recorder.watching_system(),
        output.rolled_back_if_refused(unless=lambda: _has_checkpoint(output)),
    ):
        callback = TrainCallback(
            progress,
            recorder,
            settings,
            num_workers,
            num_epochs=job.num_epochs,
            num_classes=len(learned.names),
        )
        report = _run_workers(config, output, job, resources, num_workers, callback)
    return report, callback.num_workers


def _run_workers(
    config: Config,
    output: Output,
    job: "TrainJob",
    resources: Resources,
    num_workers: int,
    callback: Callable[[Event], None],
) -> TrainReport:
    """Let workers train; return the report of the first one."""
    from sentiflow.training import task, workers

    settings = config.train
    return workers.train(
        task.run,
        job,
        num_workers=num_workers,
        min_workers=settings.min_workers,
        cpus_per_worker=resources.cpus_per_train_worker(num_workers, settings.cpus_per_worker),
        gpus_per_worker=resources.gpus_per_train_worker(settings.gpus_per_worker),
        resources=resources,
        storage_path=join(output.uri, RAY_RECORDS),
        max_failures=settings.max_failures,
        max_wait_seconds=60 * config.cluster.max_wait_minutes,
        callback=callback,
    )


def _train_folds(
    config: Config,
    output: Output,
    job: "TrainJob",
    learned: classes.LearnedClasses,
    resources: Resources,
) -> list[FileEntry]:
    """Train a model for each fold, with one worker; return the files of their answers."""
    from sentiflow.training import folds

    return folds.train(
        job,
        learned,
        root=output.spec.uri,
        folder=f"{FOLDS}/{output.spec.fingerprint}",
        run=lambda own: _run_workers(config, output, own, resources, 1, lambda event: None),
    )


def _has_checkpoint(output: Output) -> bool:
    from sentiflow.training import checkpoints

    return bool(checkpoints.list_steps(publishing.locate_checkpoints(output)))


def _wait_for_nodes(config: Config, resources: Resources, num_workers: int) -> Resources:
    """Wait until a cluster that can grow has room for all workers; return its resources then."""
    cpus = config.train.cpus_per_worker
    need = {
        "CPU": 1 if cpus == "auto" else int(cpus),
        "GPU": resources.gpus_per_train_worker(config.train.gpus_per_worker),
    }
    max_wait_seconds = 60 * config.cluster.max_wait_minutes
    capacity = connection.Capacity(need, times=num_workers, max_wait_seconds=max_wait_seconds)
    return capacity.wait_for_nodes()
