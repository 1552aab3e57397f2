"""Encoded Parquet -> checkpoints, metrics, a model package, a version in the registry.

What imports torch is imported when the training runs, as it can be while Ray starts.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiflow.cluster import connection
from sentiflow.cluster.resources import Resources
from sentiflow.config.sections import Config
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import FileEntry, Manifest, ModelInput, RefitRecord
from sentiflow.data.outputs import Output, OutputSpec, list_result
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.models.drift import Profile
from sentiflow.progress import Progress, say
from sentiflow.storage.uris import display_uri, join
from sentiflow.tracking import model_sources, refits
from sentiflow.training import descriptions, learned_classes, worker_count
from sentiflow.training.reports import (
    CHECKPOINTS,
    FOLDS,
    MODEL,
    PRETRAIN,
    TAUGHT,
    TRAIN,
    Event,
    Taught,
    TrainCallback,
    TrainReport,
    count_workers,
)
from sentiflow.training.train_job import TrainJob

if TYPE_CHECKING:
    from sentiflow.tracking.recording import Recorder

STAGE = "train"
RAY_RECORDS = "ray"
"""Folder of Ray's own files while it runs."""
CURVE = "plots/training_curve.png"
_MAX_LINEAR_ROWS = 200_000
"""96,000 rows take 11 s of a core and 0.4 GB: benchmarks/LOG.md."""
_LINEAR_ROWS_PER_SECOND = 9000
OWNS = (MODEL, CHECKPOINTS, TAUGHT, FOLDS, "plots")


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of a training.

    Raises:
        UserError: The prepared data, the model to start from, or the run to repeat are missing or
            incomplete, or the data have no row of a class to learn.
    """
    config, refit = refits.apply(config)
    settings = config.train
    record = manifest.require(settings.prepared_uri, stage="prepare", setting="train.prepared_uri")
    learned = learned_classes.choose(record, settings)
    if not refit:
        learned_classes.check_unseen(settings, record, learned)
    decisive = settings.dump_decisive()
    del decisive["distill"]
    inputs: dict[str, Any] = {"prepared": manifest.reference(settings.prepared_uri, record)}
    if settings.init_from is not None:
        first = _describe_first(config)
        package_files.check_first(first, settings.model, learned.names)
        inputs["init_from"] = {name: first[name] for name in ("uri", "fingerprint", "training")}
    if refit:
        now = inputs.get("init_from", {}).get("fingerprint")
        if now != (refit.first["fingerprint"] if refit.first else None):
            raise UserError(
                "train.init_from: the run to repeat has started from "
                f"{display_uri(refit.first['uri']) if refit.first else 'random weights'}",
                hint="leave train.init_from out, or name that model as it was then",
            )
        inputs["refit"] = refit.input
    if settings.distill.teachers:
        decisive["distill"] = settings.distill.model_dump(exclude={"teachers"})
        inputs |= model_sources.describe_teachers(config, learned.names)
    return OutputSpec(STAGE, settings.output_uri, decisive, inputs, owns=OWNS)


def _describe_first(config: Config) -> ModelInput:
    """Describe the model that ``train.init_from`` names."""
    return model_sources.describe(
        config.train.init_from or "", tracking=config.tracking.uri, setting="train.init_from"
    )


def _fetch_first(
    config: Config, output: Output, settings: TrainSettings, learned: learned_classes.LearnedClasses
) -> TrainSettings:
    """Return the settings with a directory of the first model; say what of it is reinitialized."""
    if settings.init_from is None:
        return settings
    first = _describe_first(config)
    say(STAGE, f"starting from {display_uri(first['uri'])}")
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
    watch: Callable[[Event], None] = lambda event: None,
) -> Manifest:
    """Train a model and publish its package, or resume an interrupted training.

    Args:
        config: The experiment.
        output: The output of the training.
        recorder: Its run in MLflow.
        resources: The cluster.
        taught: The answers of the teachers, if a sweep has asked them.
        watch: Called with each event of the workers, for a sweep.

    Returns:
        The manifest.

    Raises:
        UserError: The data cannot be trained on.
        JobError: A loss is not finite, or workers died too often. The checkpoints are kept.
    """
    from sentiflow.training import checkpoints

    began = time.monotonic()
    config, refit = refits.apply(config)
    settings, spec = config.train, output.spec
    splits = refit.record["splits"] if refit else SPLITS[:1]
    record = manifest.require(settings.prepared_uri, stage="prepare", setting="train.prepared_uri")
    learned = learned_classes.choose(record, settings, splits)
    num_workers, why = worker_count.choose(settings, record, learned, resources)
    if resources.may_grow:
        resources = _wait_for_nodes(config, resources, num_workers)
    settings = settings.model_copy(update={"linear": _has_linear(settings, learned, refit)})
    output.begin()
    if settings.distill.teachers and taught is None:
        from sentiflow.training import distillation

        taught = distillation.teach(config, output, inputs=spec.inputs, resources=resources)
    job = TrainJob(
        settings=_fetch_first(config, output, settings, learned),
        checkpoints_uri=locate_checkpoints(output),
        model_uri=join(output.uri, MODEL),
        claim=output.claim,
        prepared=record,
        lineage=spec.inputs | {"training": {"uri": spec.uri, "fingerprint": spec.fingerprint}},
        num_threads=resources.threads_per_train_worker(num_workers, settings.cpus_per_worker),
        on_gpu=resources.gpus_per_train_worker(settings.gpus_per_worker) > 0,
        taught=taught.files if taught else None,
        splits=splits,
        refit=refit,
        calibration=refit.package.get("calibration") if refit else None,
        reference=refit.package.get("reference") if refit else None,
    )
    num_rows = sum(taught.files.values()) if taught else int(learned.counts.sum())
    num_pretrained = int(learned.counts.sum()) + learned_classes.count_unlabelled(record)
    total = num_rows * job.num_epochs[TRAIN] + num_pretrained * job.num_epochs[PRETRAIN]
    rate = _LINEAR_ROWS_PER_SECOND * worker_count.estimate_row(settings.model)
    linear = int(num_rows / rate) if settings.linear else 0
    of_folds: list[FileEntry] = []
    if settings.folds and not refit:
        of_folds, calibration, profile = _train_folds(
            *(config, output, job, learned, resources),
            answers=taught.of_folds if taught else (),
            total=total,
            linear=linear,
        )
        job = replace(job, calibration=calibration, reference=asdict(profile))
    note = descriptions.describe_refit(refit, settings, learned) if refit else ""
    what = (
        f"{settings.model.summary}; {record['counts']['vocabulary_size']:,} words, "
        f"{num_rows:,} texts, {count_workers(num_workers)}"
    )
    for line in (what, note, why, *descriptions.describe_choices(config.train, learned)):
        if line:
            say(STAGE, line)
    with (
        Progress(STAGE, total=total, unit="texts", later=linear) as progress,
        recorder.watching_system(),
        output.rolled_back_if_refused(
            unless=lambda: bool(checkpoints.list_steps(job.checkpoints_uri))
        ),
    ):
        callback = TrainCallback(
            progress,
            recorder,
            settings,
            num_workers,
            num_epochs=job.num_epochs,
            num_classes=len(learned.names),
        )

        def take(event: Event) -> None:
            callback(event)
            watch(event)

        report = _run_workers(config, output, job, resources, num_workers, take)
    more: dict[str, Any] = {"refit": refit.record} if refit else {}
    if taught:
        more["taught"] = {name: getattr(taught, name) for name in ("uri", "fingerprint", "counts")}
    return _publish(
        *(output, report, recorder),
        num_rows=num_rows,
        registered=register(config, output, recorder, note),
        seconds=time.monotonic() - began,
        further_files=[*(taught.entries if taught else ()), *of_folds],
        num_workers=callback.num_workers,
        **more,
    )


def _wait_for_nodes(config: Config, resources: Resources, num_workers: int) -> Resources:
    """Wait until the cluster has grown for the workers; return its resources then."""
    settings = config.train
    cpus = 1 if settings.cpus_per_worker == "auto" else int(settings.cpus_per_worker)
    gpus = resources.gpus_per_train_worker(settings.gpus_per_worker)
    return connection.Capacity(
        {"CPU": cpus, "GPU": gpus},
        times=num_workers,
        max_wait_seconds=60 * config.cluster.max_wait_minutes,
    ).wait_for_nodes()


def _train_folds(
    config: Config,
    output: Output,
    job: TrainJob,
    learned: learned_classes.LearnedClasses,
    resources: Resources,
    *,
    answers: Sequence[str],
    total: int,
    linear: int,
) -> tuple[list[FileEntry], dict[str, Any], Profile]:
    """Train a model for each fold, by one worker.

    Args:
        config: The experiment.
        output: The output of the training.
        job: The training of the model itself.
        learned: The classes.
        resources: The cluster.
        answers: For each fold the file with the answers of its teachers, if there are any.
        total: Texts of one training, over all epochs.
        linear: As many texts take the time of the linear model.

    Returns:
        The files of the answers, the calibration, and the profile of the answered texts.
    """
    from sentiflow.training import folds

    num_folds, spec = job.settings.folds, output.spec

    def run_fold(own: TrainJob, number: int) -> None:
        """Train the model of a fold; the other folds and the model itself follow."""
        later = linear + (num_folds - number) * (total + linear)
        what = f"fold {number + 1} of {num_folds}"
        with Progress(STAGE, total=total, unit="texts", later=later) as progress:
            _run_workers(
                *(config, output, own, resources, 1),
                lambda event: progress.advance(event.rows_done - progress.done, what),
            )

    with output.rolled_back_if_refused():
        return folds.train(
            *(job, learned),
            root=spec.uri,
            folder=f"{FOLDS}/{spec.fingerprint}",
            run=run_fold,
            taught=answers,
        )


def _has_linear(
    settings: TrainSettings, learned: learned_classes.LearnedClasses, refit: Any
) -> bool:
    """Whether there is a linear model: of a refit if its run has one."""
    if settings.linear != "auto":
        return settings.linear
    if refit:
        return "linear_weight" in (refit.package.get("calibration") or {})
    return bool(learned.counts.sum() <= _MAX_LINEAR_ROWS)


def _run_workers(
    config: Config,
    output: Output,
    job: TrainJob,
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


def locate_checkpoints(output: Output) -> str:
    """Name the directory of the checkpoints of this training, which no other training shares."""
    return join(output.spec.uri, CHECKPOINTS, output.spec.fingerprint)


def register(
    config: Config, output: Output, recorder: "Recorder", note: str
) -> dict[str, Any] | None:
    """Log the package to the run, and register it as candidate if that is wanted.

    Where the store is unavailable, that is done later from the manifest.

    Args:
        config: Its ``name`` is that of the registered model.
        output: The output of the training.
        recorder: Its run.
        note: Description of a model that no evaluation will describe.
    """
    if note:
        recorder.set_note(note)
    package_uri = join(output.uri, MODEL)
    if config.tracking.register_model and recorder.run_id:
        recorder.log_model(package_uri, manifest.require(package_uri, stage="model", setting=MODEL))
        recorder.measure(recorder.run_id, output.spec.inputs["prepared"])
    if not recorder.registers_model:
        return None
    refit = output.spec.inputs.get("refit")
    tags = {"sentiflow.refit_of": refit["fingerprint"]} if refit else {}
    return recorder.register(package_uri, "", run_id=recorder.run_id, text=note, tags=tags)


def _publish(
    output: Output,
    report: TrainReport,
    recorder: "Recorder",
    *,
    num_rows: int,
    seconds: float,
    further_files: Sequence[FileEntry],
    **more: Any,
) -> Manifest:
    """Record the metrics of the whole training, draw its curve, and write the manifest.

    Args:
        output: The output.
        report: The outcome of the training.
        recorder: Its run in MLflow.
        num_rows: Rows of an epoch.
        seconds: Duration of the stage.
        further_files: The answers of teachers and of folds, in the output.
        more: Further keys of the manifest.
    """
    from sentiflow import plotting  # a second to import: not before the training has succeeded
    from sentiflow.training import checkpoints

    package = report.package
    history = [asdict(epoch) for epoch in report.history]
    calibration: dict[str, Any] = {**(package["calibration"] or {})}
    for line in (
        *descriptions.describe_calibration(calibration, is_refit="refit" in more),
        *descriptions.describe_losses(report.history),
    ):
        say(STAGE, line)
    rate = float(np.median([epoch.tweets_per_second for epoch in report.history]))
    metrics = {"train/seconds": seconds, "train/tweets_per_second": rate}
    recorder.log_metrics(metrics | _list_metrics(calibration, more.get("refit")))
    chosen = report.history[report.chosen_epoch - 1]
    recorder.log_metrics(chosen.to_metrics(), step=chosen.epoch)  # again: of the model
    curve = plotting.render_training_curve(history)
    recorder.log_files({CURVE: curve})
    saved = locate_checkpoints(output)
    return output.publish(
        counts={
            "rows": num_rows,
            "rows_without_token": report.rows_without_token,
            "epochs": len(history),
            "parameters": package["counts"]["parameters"],
        },
        files=[
            output.write(CURVE, curve),
            *list_result(join(output.uri, MODEL), package, path=MODEL),
            *checkpoints.list_files(saved, path=saved.removeprefix(f"{output.spec.uri}/")),
            *further_files,
        ],
        seconds=seconds,
        run=recorder.describe(),
        pretraining=[asdict(epoch) for epoch in report.pretraining],
        history=history,
        chosen_epoch=report.chosen_epoch,
        model_fingerprint=package["fingerprint"],
        mlflow_run_id=recorder.run_id,
        device=report.device,
        precision=report.precision,
        **more,
    )  # fmt: skip


def _list_metrics(
    calibration: Mapping[str, Any], refit: RefitRecord | None
) -> dict[str, float | None]:
    """List what a run in MLflow has of the calibration, and of the run that it repeats."""
    metrics: dict[str, float | None] = {
        f"train/{name}": calibration[name]
        for name in ("linear_weight", "temperature")
        if name in calibration  # no temperature without validation rows
    }
    if unsure := calibration.get("unsure"):
        metrics["train/unsure_threshold"] = unsure["threshold"]
        metrics["train/unsure_fraction"] = 1 - unsure["answered_fraction"]
    if refit:
        metrics |= {f"refit_of/{name}": value for name, value in refit["metrics"].items()}
    return metrics
