"""Encoded Parquet -> checkpoints, metrics, a model package.

What imports torch is imported when the training runs, as it can be while Ray starts.
"""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiflow.cluster import connection
from sentiflow.cluster.resources import Resources
from sentiflow.config.classes import BINARY
from sentiflow.config.sections import Config
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input, Manifest, ModelInput
from sentiflow.data.output_status import OutputSpec
from sentiflow.data.outputs import Output, list_files
from sentiflow.data.schema import SPLITS
from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.models import transfer
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import as_typed, join
from sentiflow.tracking import model_sources, refits
from sentiflow.training import classes, worker_count
from sentiflow.training.callback import TrainCallback, count_workers
from sentiflow.training.results import CHECKPOINTS, MODEL, TrainReport

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder
    from sentiflow.training.task import TrainJob

STAGE = "train"
CURVE = "plots/training_curve.png"
RAY_RECORDS = "ray"
"""Folder of Ray's own files while it runs."""
FIRST = "_first"
"""Folder of the model to start from while the training runs, if it comes from MLflow."""
OWNS = (MODEL, CHECKPOINTS, "plots", RAY_RECORDS, FIRST)


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of a training.

    Raises:
        UserError: The prepared data, the model to start from, or the run to repeat are missing or
            incomplete, or the data have no row of a class to learn, or none that ``patience``
            needs.
    """
    config, repeated = refits.apply(config)
    settings = config.train
    record = manifest.require(
        settings.prepared_uri, stage="prepare", setting="train.prepared_uri", check_files=True
    )
    learned = classes.choose(record, settings)
    if not repeated:
        classes.check_patience(settings, record, learned)
    inputs: dict[str, Any] = {"prepared": manifest.reference(settings.prepared_uri, record)}
    if settings.init_from is not None:
        first = _describe_first(config)
        transfer.check(first, settings, learned.names)
        inputs["init_from"] = {name: first[name] for name in ("uri", "fingerprint", "training")}
    if repeated:
        repeated.check_first(inputs.get("init_from"))
        inputs["refit"] = repeated.input
    return OutputSpec(STAGE, settings.output_uri, settings.dump_decisive(), inputs, owns=OWNS)


def _describe_first(config: Config) -> ModelInput:
    """Describe the model that ``train.init_from`` names."""
    return model_sources.describe(
        config.train.init_from or "", tracking=config.tracking.uri, setting="train.init_from"
    )


def _fetch_first(config: Config, output: Output, learned: classes.LearnedClasses) -> TrainSettings:
    """Return the settings with a directory of the first model; say what of it starts anew."""
    settings = config.train
    if settings.init_from is None:
        return settings
    first = _describe_first(config)
    say(STAGE, f"starting from {as_typed(first['uri'])}")
    for note in transfer.check(first, settings, learned.names):
        say(STAGE, note)
    uri = model_sources.download(first, to=join(output.uri, FIRST), tracking=config.tracking.uri)
    return settings.model_copy(update={"init_from": uri})


def run(config: Config, output: Output, recorder: "Recorder", *, resources: Resources) -> Manifest:
    """Train a model and publish its package, or resume an interrupted training.

    Returns:
        The manifest.

    Raises:
        UserError: The data cannot be trained on.
        JobError: A loss is not finite, or workers died too often. The checkpoints are kept.
    """
    from sentiflow.training import task

    began = time.monotonic()
    config, repeated = refits.apply(config)
    splits = SPLITS if repeated else SPLITS[:1]
    spec, uri = output.spec, config.train.prepared_uri
    training: Input = {"uri": spec.uri, "fingerprint": spec.fingerprint}
    record = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    learned = classes.choose(record, config.train, splits)
    num_workers, why = worker_count.choose(config.train, record, learned, resources)
    if resources.may_grow:
        resources = _wait_for_nodes(config, resources, num_workers)
    cpus = config.train.cpus_per_worker
    gpus = resources.gpus_per_train_worker(config.train.gpus_per_worker)
    output.begin()
    job = task.TrainJob(
        settings=_fetch_first(config, output, learned),
        root=output.uri,
        claim=output.claim,
        prepared=record,
        lineage=spec.inputs | {"training": training},
        num_threads=resources.threads_per_train_worker(num_workers, cpus),
        on_gpu=gpus > 0,
        splits=splits,
        refit=repeated,
    )
    num_rows = int(learned.counts.sum())
    note = repeated.describe(num_rows) if repeated else ""
    say(
        STAGE,
        f"{config.train.model.summary}; {record['counts']['vocabulary_size']:,} words, "
        f"{num_rows:,} tweets, {count_workers(num_workers)}",
    )
    for line in filter(None, [note, why]):
        say(STAGE, line)
    if learned.names != BINARY:
        say(STAGE, f"classes: {learned.describe()}")
    report, num_workers = _train(config, output, recorder, job, learned, resources, num_workers)
    registered = _register(config, output, recorder, note)
    seconds = time.monotonic() - began
    return _publish(output, job, report, recorder, num_workers, seconds, registered)


def _train(
    config: Config,
    output: Output,
    recorder: "Recorder",
    job: "TrainJob",
    learned: classes.LearnedClasses,
    resources: Resources,
    num_workers: int,
) -> tuple[TrainReport, int]:
    """Let workers train, and show how far they are; return the number that has trained, too.

    Raises:
        UserError: The data cannot be trained on; an output without a checkpoint is removed.
        JobError: A loss is not finite, or workers died too often.
    """
    from sentiflow.training import checkpoints, task, workers

    cpus = config.train.cpus_per_worker
    total = int(learned.counts.sum()) * sum(job.num_epochs.values())
    with Progress(STAGE, total=total, unit="tweets") as progress, recorder.watching_system():
        callback = TrainCallback(
            progress,
            recorder,
            config.train,
            num_workers,
            num_epochs=job.num_epochs,
            num_classes=len(learned.names),
        )
        report = workers.train(
            task.run,
            job,
            num_workers=num_workers,
            min_workers=config.train.min_workers,
            cpus_per_worker=resources.cpus_per_train_worker(num_workers, cpus),
            gpus_per_worker=resources.gpus_per_train_worker(config.train.gpus_per_worker),
            resources=resources,
            storage_path=join(output.uri, RAY_RECORDS),
            max_failures=config.train.max_failures,
            max_wait_seconds=60 * config.cluster.max_wait_minutes,
            callback=callback,
        )
    if isinstance(report, UserError):
        if not checkpoints.list_steps(join(output.uri, CHECKPOINTS)):
            output.roll_back()
        raise report
    if isinstance(report, JobError):
        raise report
    assert report is not None, "rank 0 returns a report or an error"
    return report, callback.num_workers


def _register(
    config: Config, output: Output, recorder: "Recorder", note: str
) -> dict[str, Any] | None:
    """Register the package as candidate, if there is a run to register it from.

    Where the store is unavailable, that is done later from the manifest.

    Args:
        config: Its ``name`` is that of the registered model.
        output: The output of the training.
        recorder: Its run.
        note: Description of a model that no evaluation will describe.
    """
    if note:
        recorder.set_note(note)
    if not recorder.registers_model or not recorder.run_id or not recorder.flush():
        return None
    from sentiflow.tracking import registry

    try:
        version = registry.register(
            join(output.uri, MODEL),
            name=config.name,
            tracking_uri=recorder.tracking_uri,
            run_id=recorder.run_id,
        )
        if note:
            registry.describe(
                config.name,
                manifest.require(join(output.uri, MODEL), stage="model", setting="")["fingerprint"],
                text=note,
                tags={"sentiflow.refit_of": output.spec.inputs["refit"]["fingerprint"]},
                tracking_uri=recorder.tracking_uri,
            )
    except UnavailableError as error:
        recorder.note_unavailable(error)
        return None
    say(STAGE, f"registered: {version} ({registry.CANDIDATE})")
    return {"name": version.name, "version": version.number}


def _publish(
    output: Output,
    job: "TrainJob",
    report: TrainReport,
    recorder: "Recorder",
    num_workers: int,
    seconds: float,
    registered: dict[str, Any] | None,
) -> Manifest:
    """Record the metrics of the whole training, draw its curve, and write the manifest."""
    from sentiflow import plotting  # a second to import: not before the training has succeeded

    package = report.package
    history = [asdict(epoch) for epoch in report.history]
    rate = float(np.median([epoch.tweets_per_second for epoch in report.history]))
    metrics = {"train/seconds": seconds, "train/tweets_per_second": rate}
    if package["calibration"]:
        metrics["train/temperature"] = package["calibration"]["temperature"]
    refit: dict[str, Any] = {"refit": job.refit.record} if job.refit else {}
    if job.refit:
        metrics |= {f"refit_of/{name}": value for name, value in job.refit.metrics.items()}
    recorder.log_metrics(metrics)
    curve = plotting.render_training_curve(history)
    filesystem.write_bytes(join(output.uri, CURVE), curve)
    recorder.log_files({CURVE: curve})
    return output.publish(
        counts={
            "rows": int(classes.choose(job.prepared, job.settings, job.splits).counts.sum()),
            "rows_without_token": report.rows_without_token,
            "epochs": len(history),
            "parameters": package["counts"]["parameters"],
        },
        files=[
            item for name in (MODEL, CHECKPOINTS, "plots")
            for item in list_files(output.uri, name)
        ],
        seconds=seconds,
        run=recorder.describe(),
        pretraining=[asdict(epoch) for epoch in report.pretraining],
        history=history,
        chosen_epoch=report.chosen_epoch,
        model_fingerprint=package["fingerprint"],
        mlflow_run_id=recorder.run_id,
        registered=registered,
        num_workers=num_workers,
        device=report.device,
        precision=report.precision,
        **refit,
    )  # fmt: skip


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
