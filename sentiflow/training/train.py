"""Encoded Parquet -> checkpoints, metrics, a model package, a version in the registry.

Torch is imported inside functions, while Ray starts.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from sentiflow.cluster.capacity import Capacity
from sentiflow.cluster.resources import Resources
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.outputs import Output
from sentiflow.models import logit_shares
from sentiflow.progress import Progress, say
from sentiflow.storage.uris import join
from sentiflow.training import descriptions, train_job, train_results, worker_count
from sentiflow.training.learned_classes import LearnedClasses
from sentiflow.training.reports import (
    FOLDS,
    Event,
    Taught,
    TrainCallback,
    TrainReport,
)
from sentiflow.training.train_job import TrainJob
from sentiflow.training.train_plan import STAGE, Amount, TrainPlan
from sentiflow.training.train_plan import resolve as resolve  # the stage is planned by it

if TYPE_CHECKING:
    from sentiflow.tracking.recorder import Recorder
    from sentiflow.training.folds import FoldResults

RAY_RECORDS = "ray"
"""Folder of Ray's own files while it runs."""

RunWorkers = Callable[[TrainJob, int, Callable[[Event], None]], TrainReport]
"""Trains by a number of workers, and calls a function with each of their events."""


def run(
    plan: TrainPlan,
    output: Output,
    recorder: "Recorder",
    *,
    resources: Resources,
    taught: Taught | None = None,
    watch: Callable[[Event], None] = lambda event: None,
) -> Manifest:
    """Train a model and publish its package, or resume a training; return the manifest.

    Args:
        plan: The training.
        output: Its output.
        recorder: Its run in MLflow.
        resources: The cluster.
        taught: The answers of the teachers, if a sweep has asked them.
        watch: Called with each event of the workers, for a sweep.

    Raises:
        UserError: The data cannot be trained on.
        JobError: A loss is not finite, or workers died too often. The checkpoints are kept.
    """
    began = time.monotonic()
    num_workers, why = worker_count.choose(plan.settings, plan.prepared, plan.learned, resources)
    if resources.may_grow:
        resources = _wait_for_nodes(plan, resources, num_workers)
    output.begin()
    if plan.teachers and taught is None:
        from sentiflow.training import distillation

        taught = distillation.teach(plan, output, resources=resources)
    job = train_job.describe(plan, output, resources.divide(plan.settings, num_workers), taught)
    amount = plan.count_texts(job.taught, job.num_epochs)
    run_workers = functools.partial(_run_workers, plan, output, resources)
    folds = None
    if plan.num_folds_trained:
        folds = _train_folds(plan, output, job, taught, amount, run_workers)
        job = replace(job, calibration=folds.calibration, reference=asdict(folds.profile))
    if not logit_shares.has_network(job.calibration):
        job = replace(job, trains_network=False)
        amount = plan.count_texts(job.taught, job.num_epochs)
    note = descriptions.describe_refit(plan)
    _announce(plan, job, amount, num_workers, note, why)
    report, num_workers = _train_model(
        output, recorder, job, plan.learned, num_workers, amount, run_workers, watch
    )
    costs = report.costs
    if folds:
        costs = folds.costs + costs
    registered = train_results.register(plan, output, recorder, note)
    for line in descriptions.describe_report(
        report, costs, is_refit=plan.refit is not None, has_teacher=bool(plan.teachers)
    ):
        say(STAGE, line)
    return train_results.publish(
        output,
        recorder,
        report,
        refit=plan.refit,
        registered=registered,
        seconds=time.monotonic() - began,
        num_rows=amount.num_rows,
        num_workers=num_workers,
        taught=taught,
        fold_files=folds.files if folds else (),
        costs=costs,
    )


def _wait_for_nodes(plan: TrainPlan, resources: Resources, num_workers: int) -> Resources:
    """Wait until the cluster has grown for the workers; return its resources then."""
    settings = plan.settings
    gpus = resources.gpus_per_train_worker(settings.gpus_per_worker)
    capacity = Capacity(
        {"CPU": settings.min_cpus_per_worker, "GPU": gpus},
        times=num_workers,
        max_wait_seconds=60 * plan.config.cluster.max_wait_minutes,
    )
    return capacity.wait_for_nodes()


def _train_folds(
    plan: TrainPlan,
    output: Output,
    job: TrainJob,
    taught: Taught | None,
    amount: Amount,
    run_workers: RunWorkers,
) -> "FoldResults":
    """Train a model for each fold that needs one, by one worker.

    Args:
        plan: The training.
        output: Its output.
        job: The training of the model itself.
        taught: The answers of the teachers, if there are any.
        amount: What one training has to do.
        run_workers: Trains.
    """
    from sentiflow.training import folds

    num_folds = plan.num_folds_trained

    def run_fold(fold_job: TrainJob, number: int) -> TrainReport:
        """Train the model of a fold; the other folds and the model itself follow."""
        total = amount.total if fold_job.trains_network else 0
        what = f"fold {number + 1} of {num_folds}"
        begin = f"{what}: fitting the linear model" if amount.linear else what
        later = (num_folds - number) * (total + amount.linear)
        with Progress(STAGE, what=begin, later=later) as progress:

            def show(event: Event) -> None:
                if event.is_start:
                    progress.what = ""
                    progress.count(total, "texts")
                    progress.start_at(event.rows_done)
                progress.advance(event.rows_done - progress.done, what)
                if progress.done == progress.total:
                    progress.turn_to(f"{what}: predicting the fold")

            return run_workers(fold_job, 1, show)

    with output.rolled_back_if_refused():
        return folds.train(
            job,
            plan.learned,
            num_folds=num_folds,
            root=output.spec.uri,
            folder=f"{FOLDS}/{output.spec.fingerprint}",
            run=run_fold,
            taught=taught.of_folds if taught else (),
        )


def _announce(
    plan: TrainPlan, job: TrainJob, amount: Amount, num_workers: int, note: str, why: str
) -> None:
    """Tell the user what will be trained.

    Args:
        plan: The training.
        job: The training of the model itself.
        amount: What it has to do.
        num_workers: Number of workers.
        note: Description of a refit.
        why: Why there are so many workers.
    """
    for line in descriptions.describe_plan(plan, amount.num_rows, num_workers, note, why):
        say(STAGE, line)
    if not job.trains_network:
        say(STAGE, "no network is trained: its share in the logits is 0%")


def _train_model(
    output: Output,
    recorder: "Recorder",
    job: TrainJob,
    learned: LearnedClasses,
    num_workers: int,
    amount: Amount,
    run_workers: RunWorkers,
    watch: Callable[[Event], None],
) -> tuple[TrainReport, int]:
    """Train the model itself; show and record each step.

    Returns:
        The report of the first worker, and the number of workers at the end.
    """
    from sentiflow.training import checkpoints

    def has_checkpoint() -> bool:
        return bool(checkpoints.list_steps(job.checkpoints_uri))

    begin = "fitting the linear model" if amount.linear else ""
    with (
        Progress(STAGE, what=begin) as progress,
        recorder.watching_system(),
        output.rolled_back_if_refused(unless=has_checkpoint),
    ):
        show = TrainCallback(
            progress,
            recorder,
            job.settings,
            num_workers,
            num_texts=amount.total,
            num_epochs=job.num_epochs,
            num_classes=len(learned.names),
        )

        def take(event: Event) -> None:
            show(event)
            watch(event)

        report = run_workers(job, num_workers, take)
    return report, show.num_workers


def _run_workers(
    plan: TrainPlan,
    output: Output,
    resources: Resources,
    job: TrainJob,
    num_workers: int,
    callback: Callable[[Event], None],
) -> TrainReport:
    """Let workers train; return the report of the first one."""
    from sentiflow.training import task, workers

    settings = plan.settings
    share = resources.divide(settings, num_workers)
    return workers.train(
        task.run,
        job,
        num_workers=num_workers,
        min_workers=settings.min_workers,
        cpus_per_worker=share.cpus,
        gpus_per_worker=share.gpus,
        resources=resources,
        storage_path=join(output.uri, RAY_RECORDS),
        max_failures=settings.max_failures,
        max_wait_seconds=60 * plan.config.cluster.max_wait_minutes,
        callback=callback,
    )
