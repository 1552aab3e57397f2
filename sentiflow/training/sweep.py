"""Search space -> many trainings, and a table of them."""

import json
import math
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from sentiflow.cluster.connection import Capacity
from sentiflow.cluster.resources import Resources
from sentiflow.config.sections import Config
from sentiflow.config.train_sections import SelectionSettings
from sentiflow.data import manifest
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.outputs import Output, OutputSpec, list_result
from sentiflow.errors import JobError, UserError, shorten
from sentiflow.progress import say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking.recording import Recorder
from sentiflow.training import learned_classes, search_space, sweep_trials
from sentiflow.training import train as training
from sentiflow.training.reports import TAUGHT
from sentiflow.training.sweep_trials import MAX_REASON, METRICS

# isort: split
import ray.tune
from ray.tune.schedulers import ASHAScheduler

STAGE = "sweep"
TABLE = "trials.csv"
OWNS = (sweep_trials.TRIALS, TABLE, TAUGHT)

_TUNE_VARIABLES = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output cannot be silenced
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the command line handles Ctrl-C
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial reports only its reason
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


def describe_output(config: Config) -> OutputSpec:
    """Describe the output of a sweep.

    Raises:
        UserError: The prepared data are not complete or have no validation rows, or the search
            space is wrong.
    """
    if config.train.refit:
        raise UserError(
            "train.refit: a sweep compares trials by validation rows, but a refit trains on them",
            hint="leave it out; afterwards sentiflow train repeats a run or a trial",
        )
    trained = training.describe_output(config)
    uri = config.train.prepared_uri
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    learned = learned_classes.choose(prepared, config.train)
    if not learned_classes.count_rows(prepared, "validation", learned.names):
        raise UserError(
            f"{uri} has no validation rows to compare trials by",
            hint="set prepare.split.validation_fraction",
        )
    search_space.expand(config)
    decisive = config.sweep.model_dump(mode="json", exclude={"output_uri", "max_concurrent"})
    settings = decisive | {"train": trained.settings}
    return OutputSpec(STAGE, config.sweep.output_uri, settings, trained.inputs, owns=OWNS)


def run(config: Config, output: Output, recorder: Recorder, *, resources: Resources) -> Manifest:
    """Train every trial that an earlier run of the same sweep has neither finished nor stopped.

    Returns:
        The manifest, with the ``trials``, the best first.

    Raises:
        JobError: Every trial failed.
    """
    began = time.monotonic()
    num_concurrent, request = _divide(config, resources)
    output.begin()
    taught = None
    if config.train.distill.teachers:
        from sentiflow.training import distillation

        alone = config.model_copy(update={"train": config.train.model_copy(update={"folds": 0})})
        taught = distillation.teach(alone, output, inputs=output.spec.inputs, resources=resources)
    trials = sweep_trials.plan(config, output, taught=taught and replace(taught, entries=[]))
    say(STAGE, f"{len(trials)} trials, {num_concurrent} at a time")
    capacity = Capacity(
        {"CPU": request["cpu"], "GPU": request["gpu"]},
        max_wait_seconds=60 * config.cluster.max_wait_minutes,
    )
    callback = sweep_trials.TrialCallback(trials, recorder, capacity)
    remaining = list[int]()
    for index, trial in enumerate(trials):
        if filesystem.exists(trial.outcome_uri):
            callback.end(index, json.loads(filesystem.read_bytes(trial.outcome_uri)))
        else:
            remaining.append(index)
    if remaining:
        _tune(config, output, callback, remaining, num_concurrent, request)
    records = rank(callback.records, config.train.selection)
    if all(record["status"] == "failed" for record in records):
        raise JobError(f"all {len(records)} trials failed: {records[0]['reason']}")
    answers, seconds = taught.entries if taught else (), time.monotonic() - began
    return _publish(output, trials, records, recorder, answers, seconds)


def _publish(
    output: Output,
    trials: Sequence[sweep_trials.Trial],
    records: list[dict[str, Any]],
    recorder: Recorder,
    answers: Sequence[FileEntry],
    seconds: float,
) -> Manifest:
    """Write the table and the manifest; only trials with a model keep their directories."""
    table = to_csv(records)
    recorder.log_files({TABLE: table})
    best = records[0]
    counts: dict[str, int] = {s: sum(r["status"] == s for r in records) for s in sweep_trials.ENDS}
    recorder.log_metrics(
        {f"trials/{status}": count for status, count in counts.items()}
        | {f"best/{name}": best[name] for name in METRICS}
    )
    finished = {r["name"] for r in records if r["status"] == "finished"}
    files = [output.write(TABLE, table, rows=len(records)), *answers]
    for trial in trials:
        uri = trial.config.train.output_uri
        if trained := manifest.read(uri) if trial.name in finished else None:
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
    """Choose the number of trials at a time, and what each reserves of the cluster.

    Nodes that an autoscaler could add count if ``sweep.max_concurrent`` is a number.
    """
    limit = config.sweep.max_concurrent
    cpus = 1 if config.train.cpus_per_worker == "auto" else int(config.train.cpus_per_worker)
    num_cpus, num_gpus = resources.num_cpus, resources.num_gpus
    if limit != "auto":
        num_cpus = max(num_cpus, resources.max_cpus)
        num_gpus = max(num_gpus, resources.max_gpus)
    if not resources.gpus_per_train_worker(config.train.gpus_per_worker):
        num_gpus = 0
    num_concurrent = (num_gpus or num_cpus) if limit == "auto" else int(limit)
    num_concurrent = max(1, min(num_concurrent, num_cpus // cpus))
    gpu = 0.0
    if num_gpus:  # a share of one GPU: Ray cannot split a request over two
        gpu = math.floor(1000 / math.ceil(num_concurrent / num_gpus)) / 1000
    return num_concurrent, {"cpu": cpus, "gpu": gpu}


def _choose_grace(config: Config, trials: Sequence[sweep_trials.Trial]) -> int:
    """Choose the epochs before a trial may be stopped: all, if that would not be fair.

    A mean over seeds would be too good without the seeds that are stopped. A learning rate that
    follows a schedule is spread over all epochs of a trial. In the same epoch one trial is then at
    its end and another still at its beginning, and would always lose.
    """
    epochs = {trial.config.train.num_epochs for trial in trials}
    is_constant = all(trial.config.train.schedule == "constant" for trial in trials)
    others = [{k: v for k, v in trial.values.items() if k != "train.seed"} for trial in trials]
    varied = ""
    if any(others.count(values) > 1 for values in others):
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
    remaining: list[int],
    num_concurrent: int,
    request: dict[str, float],
) -> None:
    """Let Ray Tune run the remaining trials."""
    metric, trials = config.train.selection.metric_name, callback.trials
    max_epochs = max(trial.config.train.num_epochs for trial in trials)
    grace_epochs = _choose_grace(config, trials)
    cpus = int(request["cpu"])
    share = Resources(
        num_cpus=cpus, num_gpus=int(request["gpu"] > 0), num_nodes=1, min_node_cpus=cpus
    )
    file_system, path = filesystem.locate(join(output.uri, training.RAY_RECORDS))
    os.environ.update(_TUNE_VARIABLES)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(
            lambda params: sweep_trials.train(trials[params["index"]], share=share), request
        ),
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
                reduction_factor=3,
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
    """Order trials: finished, stopped, failed, the best of each first."""
    ends = [*sweep_trials.ENDS]
    return sorted(
        trials,
        key=lambda trial: (
            ends.index(trial["status"]),
            selection.order(trial[f"validation_{selection.metric_name}"]),
            trial["trial"],
        ),
    )


def write_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Write the values of settings as on the command line."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


def to_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Write a table with a column for each setting, by its dotted name."""
    rows = [{k: v for k, v in r.items() if k != "values"} | r["values"] for r in records]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


def to_text(record: Manifest) -> str:
    """Render the trials as a table, the best first; then why trials failed."""
    trials = record["trials"]
    short = search_space.short_names(list(trials[0]["values"]))
    names = {"accuracy": "validation_accuracy", "loss": "validation_loss"}
    if record["settings"]["train"]["selection"]["metric"] == "macro_f1":
        names["macro F1"] = "validation_f1_macro"

    table = pd.DataFrame(
        {"trial": f"{trial['trial']}", "status": trial["status"]}
        | {short[key]: value for key, value in write_values(trial["values"]).items()}
        | {title: trial[name] for title, name in names.items()}
        | {"epoch": f"{trial['chosen_epoch']} of {trial['epochs']}"}
        | {"seconds": f"{trial['seconds']:.1f}"}
        for trial in trials
    ).to_string(index=False, float_format="{:.4f}".format, na_rep="")
    lines = [line.rstrip() for line in table.splitlines()]
    lines += [
        f"trial {trial['trial']} failed: {shorten(trial['reason'], MAX_REASON)}"
        for trial in trials
        if trial["reason"]
    ]
    return "\n".join(lines)
