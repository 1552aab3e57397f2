"""Search space -> many trainings, and a table of them."""

import json
import math
import os
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from sentiflow.cluster.capacity import Capacity
from sentiflow.cluster.resources import Resources
from sentiflow.config import decisive
from sentiflow.config.sections import Config
from sentiflow.config.train_sections import SelectionSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.outputs import Output, list_result
from sentiflow.errors import JobError, UserError, shorten
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking.recorder import Recorder
from sentiflow.tracking.runs import AT_A_GLANCE
from sentiflow.training import (
    learned_classes,
    own_paths,
    search_space,
    sweep_trials,
    train_plan,
)
from sentiflow.training.reports import Taught
from sentiflow.training.sweep_trials import MAX_REASON, METRICS
from sentiflow.training.train import RAY_RECORDS
from sentiflow.training.train_plan import TrainPlan

# isort: split
import ray.tune
from ray.tune.schedulers import ASHAScheduler

STAGE = "sweep"
TABLE = "trials.csv"

_TUNE_VARIABLES = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output cannot be silenced
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the command line handles Ctrl-C
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial reports only its reason
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
"""Environment variables of Ray Tune: a sweep has its own lines, and its own handling of errors."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep as it will run."""

    config: Config
    """The experiment."""
    spec: OutputSpec
    """The output. It has the same inputs as a training."""
    training: TrainPlan
    """The training with the settings of the config, without the values of a trial."""
    combinations: Sequence[search_space.Combination]
    """The trials: their values, and the config with them applied."""


def resolve(config: Config) -> SweepPlan:
    """Plan a sweep.

    Raises:
        UserError: The prepared data are not complete or have no validation rows, or the search
            space is wrong.
    """
    if config.train.refit:
        raise UserError(
            "train.refit: a sweep compares trials by validation rows, but a refit trains on them",
            hint="leave it out; afterwards sentiflow train repeats a run or a trial",
        )
    training = train_plan.resolve(config)
    if not learned_classes.count_rows(training.prepared, "validation", training.learned.names):
        raise UserError(
            f"{config.train.prepared_uri} has no validation rows to compare trials by",
            hint="set prepare.split.validation_fraction",
        )
    combinations = search_space.expand(config)
    listed = decisive.dump(config.sweep, mode="json", exclude={"output_uri", "max_concurrent"})
    settings = listed | {"train": training.spec.settings}
    spec = OutputSpec(
        STAGE,
        config.sweep.output_uri,
        settings,
        training.spec.inputs,
        owns=own_paths.OF_SWEEP,
    )
    return SweepPlan(config, spec, training, combinations)


def run(plan: SweepPlan, output: Output, recorder: Recorder, *, resources: Resources) -> Manifest:
    """Train every trial that an earlier run of the same sweep has neither finished nor stopped.

    Returns:
        The manifest, with the ``trials``, the best first.

    Raises:
        JobError: Every trial failed.
    """
    began = time.monotonic()
    config = plan.config
    num_concurrent, request = _divide(config, resources)
    output.begin()
    taught = _teach(plan, output, resources)
    # The manifest of the sweep lists the files of the answers, so those of the trials do not.
    shared = replace(taught, entries=[]) if taught else None
    trials = sweep_trials.plan(plan.combinations, output, taught=shared)
    say(STAGE, f"{len(trials)} trials, {num_concurrent} at a time")
    capacity = Capacity(
        {"CPU": request["cpu"], "GPU": request["gpu"]},
        max_wait_seconds=60 * config.cluster.max_wait_minutes,
    )
    with Progress(STAGE, total=len(trials), unit="trials") as progress:
        callback = sweep_trials.TrialCallback(trials, recorder, capacity, progress)
        remaining = list[int]()
        for index, trial in enumerate(trials):
            if filesystem.exists(trial.outcome_uri):
                callback.end(index, json.loads(filesystem.read_bytes(trial.outcome_uri)))
            else:
                remaining.append(index)
        progress.start_at(progress.done)  # earlier trials took no time now
        if remaining:
            _tune(
                config,
                output,
                callback,
                remaining=remaining,
                num_concurrent=num_concurrent,
                request=request,
            )
    records = rank(callback.records, config.train.selection)
    if all(record["status"] == "failed" for record in records):
        raise JobError(f"all {len(records)} trials failed: {records[0]['reason']}")
    answers = taught.entries if taught else ()
    return _publish(
        output,
        recorder,
        trials=trials,
        records=records,
        answers=answers,
        seconds=time.monotonic() - began,
    )


def _teach(plan: SweepPlan, output: Output, resources: Resources) -> Taught | None:
    """Ask the teachers once for all trials, which have no folds; None if there are no teachers."""
    training = plan.training
    if not training.teachers:
        return None
    from sentiflow.training import distillation

    without_folds = training.settings.model_copy(update={"folds": 0})
    config = plan.config.model_copy(update={"train": without_folds})
    return distillation.teach(replace(training, config=config), output, resources=resources)


def _publish(
    output: Output,
    recorder: Recorder,
    *,
    trials: Sequence[sweep_trials.Trial],
    records: list[dict[str, Any]],
    answers: Sequence[FileEntry],
    seconds: float,
) -> Manifest:
    """Write the table and the manifest; only trials with a model keep their directories.

    Args:
        output: The output of the sweep.
        recorder: Recorder of the sweep's run.
        trials: All trials.
        records: Their results, the best first, see :meth:`TrialCallback.end`.
        answers: Files with the answers of the teachers.
        seconds: How long the sweep took.
    """
    table = to_csv(records)
    recorder.log_files({TABLE: table})
    best = records[0]
    statuses = Counter(record["status"] for record in records)
    counts: dict[str, int] = {status: statuses[status] for status in sweep_trials.MLFLOW_STATUS}
    metrics = {f"{AT_A_GLANCE}/validation_accuracy": best["validation_accuracy"]}
    metrics |= {f"trials/{status}": count for status, count in counts.items()}
    metrics |= {f"best/{name}": best[name] for name in METRICS}
    recorder.log_metrics(metrics)
    finished = {record["name"] for record in records if record["status"] == "finished"}
    files = [output.write(TABLE, table, rows=len(records)), *answers]
    for trial in trials:
        if trial.name not in finished:
            continue
        uri = trial.config.train.output_uri
        trained = manifest.read(uri)
        if trained:
            files += list_result(uri, trained, path=f"{sweep_trials.TRIALS}/{trial.name}")
    return output.publish(
        counts={"trials": len(records), **counts},
        files=files,
        seconds=seconds,
        run=recorder.describe(),
        trials=records,
        mlflow_run_id=recorder.run_id,
    )


def _divide(config: Config, resources: Resources) -> tuple[int, dict[str, float]]:
    """Choose the number of trials at a time, and the ``cpu`` and ``gpu`` that each one reserves.

    Nodes that an autoscaler could add count if ``sweep.max_concurrent`` is a number.
    """
    limit = config.sweep.max_concurrent
    cpus = config.train.min_cpus_per_worker
    num_cpus = resources.num_cpus
    num_gpus = resources.num_gpus
    if limit != "auto":
        num_cpus = max(num_cpus, resources.max_cpus)
        num_gpus = max(num_gpus, resources.max_gpus)
    if not resources.gpus_per_train_worker(config.train.gpus_per_worker):
        num_gpus = 0
    if limit != "auto":
        wanted = int(limit)
    elif num_gpus:
        wanted = num_gpus
    else:
        wanted = num_cpus
    num_concurrent = max(1, min(wanted, num_cpus // cpus))
    gpu = 0.0
    if num_gpus:  # a share of one GPU: Ray cannot split a request over two
        trials_per_gpu = math.ceil(num_concurrent / num_gpus)
        gpu = math.floor(1000 / trials_per_gpu) / 1000  # rounded down, so that all shares fit
    return num_concurrent, {"cpu": cpus, "gpu": gpu}


def _choose_grace(config: Config, trials: Sequence[sweep_trials.Trial]) -> int:
    """Choose the number of epochs before a trial may be stopped.

    No trial is stopped early if that would be unfair. If the seed is in the space, a mean over the
    seeds that were not stopped would be too good. If the number of epochs is in the space, the same
    epoch is near the end of one trial's schedule and near the beginning of another's, which would
    always lose.
    """
    epochs = {trial.config.train.num_epochs for trial in trials}
    is_constant = all(trial.config.train.schedule == "constant" for trial in trials)
    without_seed = [
        {name: value for name, value in trial.values.items() if name != "train.seed"}
        for trial in trials
    ]
    varied = ""
    if any(without_seed.count(values) > 1 for values in without_seed):
        varied = "train.seed"
    elif len(epochs) > 1 and not is_constant:
        varied = "train.num_epochs"
    if not varied or config.sweep.grace_epochs >= max(epochs):
        return config.sweep.grace_epochs
    say(STAGE, f"no trial is stopped early, as {varied} is in the space (docs/sweeping.md)")
    return max(epochs)


def _tune(
    config: Config,
    output: Output,
    callback: sweep_trials.TrialCallback,
    *,
    remaining: list[int],
    num_concurrent: int,
    request: dict[str, float],
) -> None:
    """Let Ray Tune run the remaining trials.

    Args:
        config: The config of the sweep.
        output: Its output.
        callback: Has all trials, and takes their results.
        remaining: Numbers of the trials to run, from 0.
        num_concurrent: Number of trials at a time.
        request: The ``cpu`` and ``gpu`` that each trial reserves.
    """
    trials = callback.trials
    metric = config.train.selection.metric_name
    max_epochs = max(trial.config.train.num_epochs for trial in trials)
    grace_epochs = _choose_grace(config, trials)
    cpus = int(request["cpu"])
    num_gpus = 1 if request["gpu"] else 0
    share = Resources(num_cpus=cpus, num_gpus=num_gpus, num_nodes=1, min_node_cpus=cpus)
    file_system, path = filesystem.locate(join(output.uri, RAY_RECORDS))
    os.environ.update(_TUNE_VARIABLES)

    def train(params: dict[str, int]) -> None:
        sweep_trials.train(trials[params["index"]], share=share)

    tuner = ray.tune.Tuner(
        ray.tune.with_resources(train, request),
        param_space={"index": ray.tune.grid_search(remaining)},
        tune_config=ray.tune.TuneConfig(
            max_concurrent_trials=num_concurrent,
            reuse_actors=True,
            scheduler=ASHAScheduler(
                time_attr="epoch",
                metric=metric,
                mode="min" if metric == "loss" else "max",
                max_t=max_epochs,
                grace_period=min(grace_epochs, max_epochs),
                reduction_factor=3,  # about one trial in three goes on after each comparison
            ),
        ),
        run_config=ray.tune.RunConfig(
            name=f"sweep-{uuid.uuid4().hex[:8]}",
            storage_path=path,
            storage_filesystem=file_system,
            verbose=0,
            failure_config=ray.tune.FailureConfig(max_failures=config.train.max_failures),
            callbacks=[callback],
        ),
    )
    tuner.fit()


def rank(trials: Sequence[dict[str, Any]], selection: SelectionSettings) -> list[dict[str, Any]]:
    """Order trials: the finished, the stopped, the failed, and the best first among each."""
    statuses = list(sweep_trials.MLFLOW_STATUS)
    return sorted(
        trials,
        key=lambda trial: (
            statuses.index(trial["status"]),
            selection.order(trial[f"validation_{selection.metric_name}"]),
            trial["trial"],
        ),
    )


def write_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Write the values of settings as on the command line."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


def to_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Write a table with a column for each setting, by its dotted name."""
    rows = []
    for record in records:
        row = {**record, **record["values"]}
        del row["values"]
        rows.append(row)
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


def to_text(record: Manifest) -> str:
    """Render the trials as a table, the best first; then why trials failed."""
    trials = record["trials"]
    short = search_space.short_names(list(trials[0]["values"]))
    names = {"accuracy": "validation_accuracy", "loss": "validation_loss"}
    if record["settings"]["train"]["selection"]["metric"] == "macro_f1":
        names["macro F1"] = "validation_f1_macro"
    rows = []
    for trial in trials:
        row = {"trial": str(trial["trial"]), "status": trial["status"]}
        row |= {short[key]: value for key, value in write_values(trial["values"]).items()}
        row |= {title: trial[name] for title, name in names.items()}
        row["epoch"] = f"{trial['chosen_epoch']} of {trial['epochs']}"
        row["seconds"] = f"{trial['seconds']:.1f}"
        rows.append(row)
    table = pd.DataFrame(rows).to_string(index=False, float_format="{:.4f}".format, na_rep="")
    lines = [line.rstrip() for line in table.splitlines()]
    for trial in trials:
        if trial["reason"]:
            reason = shorten(trial["reason"], MAX_REASON)
            lines.append(f"trial {trial['trial']} failed: {reason}")
    return "\n".join(lines)
