"""Search space -> many training runs and a table of them."""

import json
import math
import os
import textwrap
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from sentiflow import manifest, search_space, storage, training
from sentiflow.cluster import Resources  # first, as it sets what Ray reads when it is imported
from sentiflow.errors import JobError, UserError
from sentiflow.manifest import Claim
from sentiflow.progress import say
from sentiflow.sections import Config, SelectionSettings
from sentiflow.sweep_trials import STOPPED, TRIALS, Curve, Task, train
from sentiflow.uris import join

# isort: split
import ray.tune
from ray.tune.schedulers import ASHAScheduler

if TYPE_CHECKING:
    from sentiflow.tracking import Recorder

STAGE = "sweep"
TABLE = "trials.csv"
RAY_RECORDS = "ray"
"""Where Ray Tune keeps its own records while it runs."""
OWNS = (TRIALS, TABLE, STOPPED, RAY_RECORDS)

Status = Literal["finished", "stopped", "failed"]
_ENDS: dict[Status, Literal["FINISHED", "KILLED", "FAILED"]] = {
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
"""In the order of the table: what MLflow calls them."""

_MAX_REASON = 160
"""Characters of a failure that are shown; the manifest has all of them."""
_NOT_DECISIVE = {"output_uri", "max_concurrent"}
_TUNE_VARIABLES = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one is never silent
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the command line's
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails reports only why
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


def claim(config: Config) -> Claim:
    """Say what a sweep would make.

    Raises:
        UserError: The prepared data are not complete, or have no validation rows; or the space
            is wrong.
    """
    trained = training.claim(config)
    if not _count_rows(config, "validation"):
        raise UserError(
            f"{config.train.prepared_uri} has no validation rows, by which trials are compared",
            hint="set prepare.split.validation_fraction",
        )
    search_space.expand(config)
    decisive = config.sweep.model_dump(mode="json", exclude=_NOT_DECISIVE)
    settings = decisive | {"train": trained.settings}
    return Claim(STAGE, config.sweep.output_uri, settings, trained.inputs, owns=OWNS)


def run(
    config: Config, recorder: "Recorder", *, resources: Resources, overwrite: bool
) -> dict[str, Any]:
    """Train every trial, or those that a killed run of the same sweep has left.

    Returns:
        The manifest, with the ``trials``, best first.

    Raises:
        UserError: A trial wants more workers than there are cores.
        JobError: Every trial failed.
    """
    began = time.monotonic()
    target = claim(config)
    room = _Room.find(config, resources)
    manifest.begin(target, overwrite=overwrite, resumable=True)
    tasks = [Task.plan(trial, target.uri) for trial in search_space.expand(config)]
    settled = [task.settled_curve() is not None for task in tasks]
    before = f"{sum(settled)} of them trained before, " if any(settled) else ""
    say(STAGE, f"{len(tasks)} trials, {before}{room.num_concurrent} at a time")
    num_rows = _count_rows(config, "train")
    with _Audience(tasks, recorder, config.train.selection, num_rows=num_rows) as audience:
        _tune(config, tasks, settled, room, audience, join(target.uri, RAY_RECORDS))
    records = audience.records()
    if all(record["status"] == "failed" for record in records):
        raise JobError(f"all {len(records)} trials failed: {records[0]['reason']}")
    return _publish(target, tasks, records, recorder, time.monotonic() - began)


def best(record: Mapping[str, Any]) -> dict[str, Any]:
    """Find the best trial of those that were trained to their end.

    Raises:
        JobError: There is none.
    """
    first = record["trials"][0]
    if first["status"] != "finished":
        raise JobError("no trial was trained to its end")
    return dict(first)


def _count_rows(config: Config, split: str) -> int:
    """Count the rows of a split that have a label."""
    uri = config.train.prepared_uri
    prepared = manifest.require(uri, stage="prepare", setting="train.prepared_uri")
    labels = prepared["counts"]["labels"][split]
    return int(labels["negative"] + labels["positive"])


def to_text(record: Mapping[str, Any]) -> str:
    """Render a sweep's manifest as a table, best first, and below it why trials failed."""
    trials = record["trials"]
    short = search_space.short_names(list(trials[0]["values"]))
    table = pd.DataFrame(
        {"trial": f"{trial['trial']}", "status": trial["status"]}
        | {short[key]: _written(value) for key, value in trial["values"].items()}
        | {
            "accuracy": _rounded(trial["validation_accuracy"]),
            "loss": _rounded(trial["validation_loss"]),
            "epoch": f"{trial['chosen_epoch']} of {trial['epochs']}",
            "seconds": f"{trial['seconds']:.1f}",
        }
        for trial in trials
    )
    failed = [f"trial {t['trial']} failed: {_brief(t['reason'])}" for t in trials if t["reason"]]
    lines = table.to_string(index=False).splitlines()
    return "\n".join([*(line.rstrip() for line in lines), *failed])


def _written(value: Any) -> str:
    """Write a value as in YAML."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _brief(reason: str) -> str:
    return textwrap.shorten(reason, _MAX_REASON, placeholder=" ...")


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _publish(
    target: Claim,
    tasks: Sequence[Task],
    records: list[dict[str, Any]],
    recorder: "Recorder",
    seconds: float,
) -> dict[str, Any]:
    """Write the table and the manifest; only trials with a model keep their directories."""
    table = _to_csv(records)
    storage.write_bytes(join(target.uri, TABLE), table)
    recorder.log_files({TABLE: table})
    counts: dict[str, int] = {
        status: sum(r["status"] == status for r in records) for status in _ENDS
    }
    recorder.log_metrics(
        {f"trials/{status}": count for status, count in counts.items()}
        | {f"best/validation_{name}": records[0][f"validation_{name}"]
           for name in ("accuracy", "loss")}
    )  # fmt: skip
    finished = {r["name"] for r in records if r["status"] == "finished"}
    files = [{"path": TABLE, "rows": len(records), "bytes": len(table)}]
    for task in tasks:
        if task.name in finished:
            files += manifest.list_files(target.uri, f"{TRIALS}/{task.name}")
        else:
            storage.delete(task.uri)
    return manifest.publish(
        target,
        counts={"trials": len(records), **counts},
        files=files,
        seconds=seconds,
        trials=records,
        mlflow_run_id=recorder.run_id,
    )


def _to_csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Make a column of each setting, by its whole name."""
    rows = [
        {key: value for key, value in record.items() if key != "values"} | record["values"]
        for record in records
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


@dataclass(frozen=True)
class _Room:
    """How many trials run at once, and what each gets of the cluster."""

    num_concurrent: int
    request: dict[str, float]
    """What Tune sets aside for a trial; its workers, where it has several, ask for themselves."""
    share: Resources
    """What the trial takes the cluster for."""
    keeps_processes: bool
    """Whether one trial after another runs in the same process."""

    @classmethod
    def find(cls, config: Config, resources: Resources) -> "_Room":
        """Divide the cluster: one core and one process for a trial, unless it has more workers.

        Raises:
            UserError: A trial wants more workers than there are cores.
        """
        wanted, limit = config.train.num_workers, config.sweep.max_concurrent
        num_workers = 1 if wanted == "auto" else resources.train_workers(wanted)
        fitting = max(1, (resources.num_gpus or resources.num_cpus) // num_workers)
        num_concurrent = fitting if limit == "auto" else int(limit)
        if num_workers > 1:
            num_concurrent = min(num_concurrent, fitting)
            share = replace(
                resources,
                num_cpus=resources.num_cpus // num_concurrent,
                num_gpus=resources.num_gpus // num_concurrent,
            )
            no_core = {"cpu": 0.0, "memory": 1.0}  # an empty request is refused
            return cls(num_concurrent, no_core, share, keeps_processes=False)
        num_concurrent = min(num_concurrent, resources.num_cpus)
        gpu = min(1.0, math.floor(1000 * resources.num_gpus / num_concurrent) / 1000)
        share = Resources(num_cpus=1, num_gpus=int(gpu > 0), num_nodes=1, min_node_cpus=1)
        return cls(num_concurrent, {"cpu": 1, "gpu": gpu}, share, keeps_processes=True)


def _tune(
    config: Config,
    tasks: Sequence[Task],
    settled: Sequence[bool],
    room: _Room,
    audience: "_Audience",
    storage_path: str,
) -> None:
    """Let Ray Tune run the trials, the settled ones first: the others are compared with them."""
    metric = config.train.selection.metric
    max_epochs = max(task.config.train.num_epochs for task in tasks)
    order = sorted(range(len(tasks)), key=lambda index: not settled[index])

    def work(asked: dict[str, Any]) -> None:
        train(tasks[asked["index"]], metric=metric, share=room.share)

    # Ray Tune would leave the workers of a stopped trial behind, and their cores with them.
    grace_epochs = config.sweep.grace_epochs if room.keeps_processes else max_epochs
    os.environ.update(_TUNE_VARIABLES)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(work, room.request),
        param_space={"index": ray.tune.grid_search(order)},
        tune_config=ray.tune.TuneConfig(
            max_concurrent_trials=room.num_concurrent,
            reuse_actors=room.keeps_processes,
            scheduler=ASHAScheduler(
                time_attr="epoch",
                metric=metric,
                mode="min" if metric == "loss" else "max",
                max_t=max_epochs,
                grace_period=min(grace_epochs, max_epochs),
                reduction_factor=config.sweep.reduction_factor,
            ),
        ),
        run_config=ray.tune.RunConfig(
            name=f"sweep-{uuid.uuid4().hex[:8]}",
            storage_path=storage_path,
            verbose=0,
            failure_config=ray.tune.FailureConfig(max_failures=config.train.max_failures),
            callbacks=[audience],
        ),
    )
    tuner.fit()


@dataclass
class _Result:
    """What is known of a trial so far."""

    recorder: "Recorder"
    """Of its own MLflow run."""
    curve: Curve = field(default_factory=dict)
    status: Status | None = None
    """None while it is trained."""
    reason: str = ""

    def take(self, epoch: int, figures: dict[str, float | None]) -> None:
        """Take an epoch; one that comes again, after a death, is known."""
        if epoch not in self.curve:
            self.curve[epoch] = figures
            self.recorder.log_metrics(figures, step=epoch)

    def seconds(self, num_rows: int) -> float:
        """Add up what the epochs took, in whichever process each was trained."""
        rates = [figures["train/tweets_per_second"] for figures in self.curve.values()]
        return sum(num_rows / rate for rate in rates if rate)

    def chosen(self, selection: SelectionSettings) -> tuple[int, dict[str, float | None]]:
        """Find the epoch whose weights the trial's model has, or would have; 0 before the first."""
        if not self.curve:
            return 0, {}
        sign = -1 if selection.metric == "loss" else 1
        values = {
            epoch: sign * (figures[f"validation/{selection.metric}"] or 0.0)
            for epoch, figures in self.curve.items()
        }
        epoch = max(values, key=values.__getitem__ if selection.keep == "best" else int)
        return epoch, self.curve[epoch]


class _Audience(ray.tune.Callback):
    """Takes what Ray Tune hears of the trials: shows it, and keeps an MLflow run of each."""

    def __init__(
        self,
        tasks: Sequence[Task],
        recorder: "Recorder",
        selection: SelectionSettings,
        *,
        num_rows: int,
    ) -> None:
        self.tasks, self.recorder, self.selection = tasks, recorder, selection
        self.num_rows = num_rows
        self.results: dict[int, _Result] = {}
        self.short = search_space.short_names(list(tasks[0].trial.values))

    def __enter__(self) -> "_Audience":
        return self

    def __exit__(self, *error: object) -> None:
        """End the runs of trials that an interrupt has left in their midst."""
        for result in self.results.values():
            if result.status is None:
                result.recorder.end("KILLED", reason="the sweep was ended")

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Begin the trial's run, unless it is started again after a death."""
        index = trial.config["index"]
        if index in self.results:
            return
        task = self.tasks[index]
        tags = {"sentiflow.trial": task.name}
        recorder = self.recorder.begin_nested(task.name, stage=training.STAGE, tags=tags)
        recorder.log_settings(task.config.model_dump(mode="json", include={"train"}))
        self.results[index] = _Result(recorder)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take an epoch, or why the trial failed."""
        known = self.results[trial.config["index"]]
        known.reason = result.get("reason", known.reason)
        if "figures" in result:
            known.take(result["epoch"], result["figures"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Find out what became of a trial with which Tune has done."""
        index = trial.config["index"]
        known, task = self.results[index], self.tasks[index]
        if known.reason:
            return self._end(index, "failed")
        finished = task.finished_curve()
        curve = finished or task.stopped_curve()
        if curve is None:
            task.keep_stopped(known.curve)
        for epoch, figures in (curve or {}).items():
            known.take(epoch, figures)
        return self._end(index, "finished" if finished else "stopped")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take a failure that no trial foresees, such as a lost machine."""
        index = trial.config["index"]
        text = str(trial.get_error() or "").strip()
        self.results[index].reason = text.splitlines()[-1] if text else "its process died"
        self._end(index, "failed")

    def records(self) -> list[dict[str, Any]]:
        """List the trials for the manifest: finished, stopped, failed; in each the best first."""
        sign = 1 if self.selection.metric == "loss" else -1
        name = f"validation_{self.selection.metric}"
        order = list(_ENDS)
        return sorted(
            map(self._record, sorted(self.results)),
            key=lambda record: (order.index(record["status"]), sign * (record[name] or 0.0)),
        )

    def _record(self, index: int) -> dict[str, Any]:
        known, task = self.results[index], self.tasks[index]
        epoch, figures = known.chosen(self.selection)
        assert known.status is not None, "Tune has done with every trial"
        return {
            "trial": task.trial.number,
            "name": task.name,
            "status": known.status,
            "values": task.trial.values,
            "validation_accuracy": figures.get("validation/accuracy"),
            "validation_loss": figures.get("validation/loss"),
            "chosen_epoch": epoch,
            "epochs": len(known.curve),
            "seconds": round(known.seconds(self.num_rows), 1),
            "reason": known.reason,
        }

    def _end(self, index: int, status: Status) -> None:
        known = self.results[index]
        known.status = status
        known.recorder.end(_ENDS[status], reason=known.reason)
        record = self._record(index)
        values = ", ".join(f"{self.short[key]} {item}" for key, item in record["values"].items())
        if status == "failed":
            outcome = f"failed: {_brief(known.reason)}"
        else:
            metric = self.selection.metric
            outcome = f"validation {metric} {record[f'validation_{metric}']:.4f}"
        epochs = f"{record['epochs']} epoch{'' if record['epochs'] == 1 else 's'}"
        note = (
            f"{'stopped after ' if status == 'stopped' else ''}{epochs}, {record['seconds']:.1f} s"
        )
        say(STAGE, f"trial {record['trial']} of {len(self.tasks)}: {values}: {outcome} ({note})")
