"""Search space -> many trainings and a table of them."""

import json
import math
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pandas as pd

from sentiflow.cluster.connection import Capacity
from sentiflow.cluster.resources import Resources, count_train_workers
from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.data.outputs import Output, OutputSpec, list_result
from sentiflow.errors import JobError, UserError, shorten
from sentiflow.progress import say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join
from sentiflow.tracking.recording import Recorder
from sentiflow.training import classes, search_space, sweep_seeds, sweep_trials
from sentiflow.training import train as training
from sentiflow.training.results import TAUGHT

# isort: split
import ray.tune
from ray.tune.schedulers import ASHAScheduler

STAGE = "sweep"
TABLE, SEEDS_TABLE = "trials.csv", "seeds.csv"
OWNS = (sweep_trials.TRIALS, TABLE, SEEDS_TABLE, TAUGHT)

_NOT_DECISIVE = {"output_uri", "max_concurrent"}
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
    learned = classes.choose(prepared, config.train)
    if not classes.count_rows(prepared, "validation", learned.names):
        raise UserError(
            f"{uri} has no validation rows to compare trials by",
            hint="set prepare.split.validation_fraction",
        )
    search_space.expand(config)
    decisive = config.sweep.model_dump(mode="json", exclude=_NOT_DECISIVE)
    settings = decisive | {"train": trained.settings}
    return OutputSpec(STAGE, config.sweep.output_uri, settings, trained.inputs, owns=OWNS)


def run(config: Config, output: Output, recorder: Recorder, *, resources: Resources) -> Manifest:
    """Train every trial that an earlier run of the same sweep has neither finished nor stopped.

    Returns:
        The manifest, with the ``trials``, the best first.

    Raises:
        UserError: A trial needs more workers than there are cores.
        JobError: Every trial failed, or one was lost with its machine or storage.
    """
    began = time.monotonic()
    division = _Division.find(config, resources)
    output.begin()
    taught = None
    if config.train.distill.teachers:
        from sentiflow.training import distillation

        taught = distillation.teach(config, output, inputs=output.spec.inputs, resources=resources)
    shared = replace(taught, entries=[]) if taught else None
    trials = sweep_trials.plan(config, output, taught=shared)
    say(STAGE, f"{len(trials)} trials, {division.num_concurrent} at a time")
    need = {"CPU": max(1.0, division.request["cpu"]), "GPU": division.request.get("gpu", 0.0)}
    capacity = Capacity(need, max_wait_seconds=60 * config.cluster.max_wait_minutes)
    callback = sweep_trials.TrialCallback(trials, recorder, capacity)
    try:
        _tune(config, trials, division, callback, join(output.uri, training.RAY_RECORDS))
    finally:
        callback.end_open_runs()
    if callback.lost:
        raise JobError(
            f"{'; '.join(callback.lost)}: run the same command again to resume; the other trials "
            "are kept"
        )
    records = callback.records()
    if all(record["status"] == "failed" for record in records):
        raise JobError(f"all {len(records)} trials failed: {records[0]['reason']}")
    answers = taught.entries if taught else ()
    return _publish(output, trials, records, recorder, answers, time.monotonic() - began)


def best(record: Manifest) -> list[sweep_trials.TrialRecord]:
    """Return the best finished trial; of trials that differ in their seed, all of the best mean.

    Raises:
        JobError: No trial finished.
    """
    trials = cast(list[sweep_trials.TrialRecord], record["trials"])
    finished = [trial for trial in trials if trial["status"] == "finished"]
    if not finished:
        raise JobError("no trial finished")
    if not (groups := record.get("seeds")):
        return finished[:1]
    values = groups[0]["values"]
    return [trial for trial in finished if sweep_seeds.without_seed(trial["values"]) == values]


def to_text(record: Manifest) -> str:
    """Render the trials as a table, the best first; then why trials failed, and the seeds."""
    trials = record["trials"]
    short = search_space.short_names(list(trials[0]["values"]))
    names = {"accuracy": "validation_accuracy", "loss": "validation_loss"}
    if record["settings"]["train"]["selection"]["metric"] == "macro_f1":
        names["macro F1"] = "validation_f1_macro"
    if any(trial.get("test_accuracy") is not None for trial in trials):
        names["test accuracy"] = "test_accuracy"
    lines = _align(
        [
            {"trial": f"{trial['trial']}", "status": trial["status"]}
            | _show_values(trial["values"], short)
            | {title: trial[name] for title, name in names.items()}
            | {"epoch": f"{trial['chosen_epoch']} of {trial['epochs']}"}
            | {"seconds": f"{trial['seconds']:.1f}"}
            for trial in trials
        ]
    )
    lines += [
        f"trial {t['trial']} failed: {shorten(t['reason'], sweep_trials.MAX_REASON)}"
        for t in trials
        if t["reason"]
    ]
    if groups := record.get("seeds"):
        lines += ["", "mean ± standard deviation over the seeds:"]
        lines += _align(
            [
                {"seeds": f"{group['num_seeds']}"}
                | _show_values(group["values"], short)
                | {
                    title: f"{group[f'{name}_mean']:.4f} ± {group[f'{name}_std']:.4f}"
                    for title, name in names.items()
                    if group[f"{name}_mean"] is not None
                }
                for group in groups
            ]
        )
    return "\n".join(lines)


def _show_values(values: Mapping[str, Any], short: Mapping[str, str]) -> dict[str, str]:
    return {
        short[key]: value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }


def _align(rows: list[dict[str, Any]]) -> list[str]:
    """Render a table with a line of names."""
    table = pd.DataFrame(rows)
    lines = table.to_string(index=False, float_format="{:.4f}".format, na_rep="").splitlines()
    return [line.rstrip() for line in lines]


def _publish(
    output: Output,
    trials: Sequence[sweep_trials.Trial],
    records: list[sweep_trials.TrialRecord],
    recorder: Recorder,
    answers: Sequence[FileEntry],
    seconds: float,
) -> Manifest:
    """Write the tables and the manifest; only trials with a model keep their directories."""
    seeds = sweep_seeds.summarize(records, trials[0].config.train.selection)
    tables = {TABLE: _to_csv(records)} | ({SEEDS_TABLE: _to_csv(seeds)} if seeds else {})
    recorder.log_files(tables)
    counts: dict[str, int] = {
        status: sum(r["status"] == status for r in records) for status in sweep_trials.ENDS
    }
    recorder.log_metrics(
        {f"trials/{status}": count for status, count in counts.items()}
        | {
            "best/validation_accuracy": records[0]["validation_accuracy"],
            "best/validation_loss": records[0]["validation_loss"],
            "best/validation_f1_macro": records[0]["validation_f1_macro"],
        }
    )
    finished = {r["name"] for r in records if r["status"] == "finished"}
    files = [
        output.write(name, table, rows=len(seeds if name == SEEDS_TABLE else records))
        for name, table in tables.items()
    ]
    files += answers
    for trial in trials:
        uri = trial.config.train.output_uri
        trained = manifest.read(uri) if trial.name in finished else None
        if trained:
            files += list_result(uri, trained, path=f"{sweep_trials.TRIALS}/{trial.name}")
    return output.publish(
        counts={"trials": len(records), **counts},
        files=files,
        seconds=seconds,
        run=recorder.describe(),
        trials=records,
        seeds=seeds,
        mlflow_run_id=recorder.run_id,
    )


def _to_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Write a table with a column for each setting, by its dotted name."""
    rows = [{k: v for k, v in r.items() if k != "values"} | r["values"] for r in records]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


@dataclass(frozen=True)
class _Division:
    """The number of trials at a time, and the share of the cluster for each."""

    num_concurrent: int
    request: dict[str, float]
    """Reserved by Tune for a trial; several workers of a trial reserve their own share."""
    share: Resources
    """The resources that a trial sees."""
    keeps_processes: bool
    """Whether a process is used for one trial after another."""

    @classmethod
    def find(cls, config: Config, resources: Resources) -> "_Division":
        """Divide the cluster: a trial gets one process and one core, or those of its workers.

        Nodes that an autoscaler could add count if ``sweep.max_concurrent`` is a number.

        Raises:
            UserError: A trial needs more workers than there are cores.
        """
        train, limit = config.train, config.sweep.max_concurrent
        num_workers = 1 if train.num_workers == "auto" else count_train_workers(train, resources)
        gpus = resources.gpus_per_train_worker(train.gpus_per_worker)
        cpus = 1 if train.cpus_per_worker == "auto" else int(train.cpus_per_worker)
        num_cpus, num_gpus = resources.num_cpus, resources.num_gpus if gpus else 0
        if limit != "auto":
            num_cpus = max(num_cpus, resources.max_cpus)
            num_gpus = max(num_gpus, resources.max_gpus if gpus else 0)
        fitting = max(1, (num_gpus or num_cpus // cpus) // num_workers)
        num_concurrent = fitting if limit == "auto" else int(limit)
        if num_workers > 1:
            num_concurrent = min(num_concurrent, fitting)
            share = replace(
                resources,
                num_cpus=num_cpus // num_concurrent,
                num_gpus=num_gpus // num_concurrent,
                may_grow=False,  # else a trial would take the whole cluster
            )
            no_core = {"cpu": 0.0, "memory": 1.0}  # Tune refuses an empty request
            return cls(num_concurrent, no_core, share, keeps_processes=False)
        num_concurrent = max(1, min(num_concurrent, num_cpus // cpus))
        gpu = 0.0
        if num_gpus:  # a share of one GPU: Ray cannot split a request over two
            gpu = math.floor(1000 / math.ceil(num_concurrent / num_gpus)) / 1000
        share = Resources(num_cpus=cpus, num_gpus=int(gpu > 0), num_nodes=1, min_node_cpus=cpus)
        return cls(num_concurrent, {"cpu": cpus, "gpu": gpu}, share, keeps_processes=True)


def _choose_grace(config: Config, trials: Sequence[sweep_trials.Trial]) -> int:
    """Choose the epochs before a trial may be stopped: all, if that would not be fair.

    A mean over seeds would be too good without the seeds that are stopped. A learning rate that
    follows a schedule is spread over all epochs of a trial. In the same epoch one trial is then at
    its end and another still at its beginning, and would always lose.
    """
    epochs = {trial.config.train.num_epochs for trial in trials}
    is_constant = all(trial.config.train.schedule == "constant" for trial in trials)
    varied = ""
    if sweep_seeds.has_repeats([trial.values for trial in trials]):
        varied = sweep_seeds.SEED
    elif len(epochs) > 1 and not is_constant:
        varied = "train.num_epochs"
    if not varied or config.sweep.grace_epochs >= max(epochs):
        return config.sweep.grace_epochs
    say(STAGE, f"no trial is stopped early, as {varied} is in the space (docs/sweeping.md)")
    return max(epochs)


def _tune(
    config: Config,
    trials: Sequence[sweep_trials.Trial],
    division: _Division,
    callback: sweep_trials.TrialCallback,
    storage_path: str,
) -> None:
    """Let Ray Tune run the trials, those trained before first: others are compared with them."""
    metric = config.train.selection.metric_name
    max_epochs = max(trial.config.train.num_epochs for trial in trials)
    grace_epochs = _choose_grace(config, trials)
    order = sorted(range(len(trials)), key=lambda index: trials[index].known_curve()[0] is None)

    def run_trial(params: Mapping[str, int]) -> None:
        sweep_trials.train(trials[params["index"]], metric=metric, share=division.share)

    file_system, path = filesystem.locate(storage_path)
    os.environ.update(_TUNE_VARIABLES)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(run_trial, division.request),
        param_space={"index": ray.tune.grid_search(order)},
        tune_config=ray.tune.TuneConfig(
            max_concurrent_trials=division.num_concurrent,
            reuse_actors=division.keeps_processes,
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
