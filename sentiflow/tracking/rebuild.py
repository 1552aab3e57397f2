"""Manifests of finished stages -> what their MLflow runs lack, or the whole runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Literal

from sentiflow.errors import JobError, UnavailableError, UserError
from sentiflow.tracking import mlflow_store, provenance, recording
from sentiflow.tracking.finished_stages import Epoch, FinishedStage, Metrics, StageInfo, TrialInfo
from sentiflow.tracking.mlflow_values import to_metrics, to_ms, to_params, to_tags
from sentiflow.tracking.recording import (
    CODE_TAGS,
    GROUP_TAG,
    PARENT_TAG,
    REASON_TAG,
    SCORED_FINGERPRINT_TAG,
    SCORED_TAG,
    STAGE_TAG,
    TRIAL_TAG,
    Status,
)

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Metric, Run

Outcome = Literal["added", "completed", "complete"]

_EPOCH_METRICS = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "validation/loss": "validation_loss",
    "validation/accuracy": "validation_accuracy",
    "train/learning_rate": "learning_rate",
    "train/gradient_norm": "gradient_norm",
    "train/padding_fraction": "padding_fraction",
    "train/tweets_per_second": "tweets_per_second",
    "train/epoch_seconds": "seconds",
}
"""Metrics of an epoch: MLflow's names, and those of the manifest."""
_PRETRAINING_METRICS = {"pretrain/loss": "train_loss", "pretrain/epoch_seconds": "seconds"}
_TAGS = {*CODE_TAGS, SCORED_TAG, SCORED_FINGERPRINT_TAG, "mlflow.note.content"}
"""No others are taken from a manifest."""
_TRIAL_STATUS: dict[str, Status] = {
    "finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"
}  # fmt: skip


@dataclass(frozen=True)
class ImportedRun:
    """A run that the store has now."""

    name: str
    run_id: str
    outcome: Outcome
    """``complete``: nothing was missing."""


@dataclass
class _Target:
    """A run in the store, and what an import adds to it."""

    client: MlflowClient
    run: Run
    num_added: int = 0

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)

    def add_params(self, params: Mapping[str, str]) -> None:
        missing = {k: v for k, v in to_params(params).items() if k not in self.run.data.params}
        recording.add_params(self.client, self.run_id, missing)
        self.num_added += len(missing)

    def add_tags(self, tags: Mapping[str, str]) -> None:
        missing = {k: v for k, v in to_tags(tags).items() if k not in self.run.data.tags}
        recording.add_tags(self.client, self.run_id, missing)
        self.num_added += len(missing)

    def add_metrics(self, metrics: Metrics, time: int) -> None:
        """Add metrics of the whole run."""
        missing = [
            Metric(name, value, time, 0)
            for name, value in to_metrics(metrics).items()
            if name not in self.run.data.metrics
        ]
        recording.add_metrics(self.client, self.run_id, missing)
        self.num_added += len(missing)

    def add_curve(self, curve: Sequence[tuple[int, int, Mapping[str, float | None]]]) -> None:
        """Add metrics by epoch, each an epoch, a time and metrics."""
        values = [
            Metric(name, value, time, epoch)
            for epoch, time, metrics in curve
            for name, value in to_metrics(metrics).items()
        ]
        known = {
            (name, point.step)
            for name in {metric.key for metric in values} & self.run.data.metrics.keys()
            for point in self.client.get_metric_history(self.run_id, name)
        }
        missing = [metric for metric in values if (metric.key, metric.step) not in known]
        recording.add_metrics(self.client, self.run_id, missing)
        self.num_added += len(missing)

    def add_datasets(self, stage: StageInfo) -> None:
        inputs = {name: value.model_dump() for name, value in stage.inputs.items()}
        known = {
            (item.dataset.name, item.dataset.digest)
            for item in (self.run.inputs.dataset_inputs if self.run.inputs else ())
        }
        missing = [
            item
            for item in recording.to_datasets(inputs, stage=stage.stage)
            if (item.dataset.name, item.dataset.digest) not in known
        ]
        if missing:
            self.client.log_inputs(self.run_id, datasets=missing)
        self.num_added += len(missing)
        self.add_tags(provenance.describe_lineage(inputs))

    def add_artifacts(self, stage: FinishedStage) -> None:
        paths = stage.run.artifacts
        folders = {path.rpartition("/")[0] for path in paths}
        known = {
            file.path
            for folder in folders
            for file in self.client.list_artifacts(self.run_id, folder or None)
        }
        missing = {path: stage.read_artifact(path) for path in paths if path not in known}
        if missing:
            recording.add_files(self.client, self.run_id, missing)
        self.num_added += len(missing)

    def end(self, status: Status, time: int, reason: str = "") -> None:
        is_wrong = status == "FINISHED" and REASON_TAG in self.run.data.tags
        if self.run.info.status != status or is_wrong:
            recording.end_run(self.client, self.run_id, status, time, reason)
            self.num_added += 1


@dataclass
class _Import:
    """Rebuilds the runs of stages that belong to one experiment."""

    client: MlflowClient
    tracking_uri: str
    experiment_id: str
    stages: Sequence[FinishedStage]
    trainings: dict[str, _Target] = field(default_factory=dict)
    """By the fingerprint of what was trained."""

    def complete(self, stage: FinishedStage) -> ImportedRun:
        """Add to a run what it lacks; make it if there is none."""
        run, info, end = stage.run, stage.info, to_ms(stage.run.end)
        tags = {STAGE_TAG: info.stage, GROUP_TAG: run.group, provenance.OUTPUT_TAG: stage.uri}
        tags |= {name: value for name, value in run.tags.items() if name in _TAGS}
        target, is_new = self._find_or_make(
            self._find(stage), name=run.name, start=to_ms(run.start), tags=tags
        )
        target.add_params(run.params)
        target.add_tags(tags)
        target.add_metrics(run.metrics, end)
        target.add_curve(_curve(info, run.start, run.end))
        target.add_datasets(info)
        target.add_artifacts(stage)
        for trial in info.trials:
            self._complete_trial(stage, target, trial)
        if info.stage == "train":
            self.trainings[info.fingerprint] = target
            if run.registers_model:
                target.num_added += self._register(stage, target.run_id)
        if run.training:
            self._complete_training(stage, run.training.metrics, run.training.tags)
        target.end("FINISHED", end)
        target.add_tags({provenance.FINGERPRINT_TAG: info.fingerprint})
        outcome: Outcome = "completed" if target.num_added else "complete"
        return ImportedRun(run.name, target.run_id, "added" if is_new else outcome)

    def _find(self, stage: FinishedStage) -> Run | None:
        """Find a stage's run: it has the same group, stage and, if it is finished, fingerprint."""
        tags = {GROUP_TAG: stage.run.group, STAGE_TAG: stage.info.stage}
        found = [
            run
            for run in recording.find_runs(self.client, self.experiment_id, tags)
            if PARENT_TAG not in run.data.tags
            and run.data.tags.get(provenance.FINGERPRINT_TAG, stage.info.fingerprint)
            == stage.info.fingerprint
        ]
        found.sort(key=lambda run: run.info.run_id != stage.run.mlflow_run_id)
        return found[0] if found else None

    def _find_or_make(
        self, run: Run | None, *, name: str, start: int, tags: Mapping[str, str]
    ) -> tuple[_Target, bool]:
        if run is not None:
            return _Target(self.client, run), False
        made = self.client.create_run(
            self.experiment_id, start_time=start, tags=to_tags(tags), run_name=name
        )
        return _Target(self.client, made), True

    def _complete_trial(self, stage: FinishedStage, parent: _Target, trial: TrialInfo) -> None:
        """Complete the nested run of a trial.

        The curve of a trial that was stopped or failed is in no manifest: only the metrics of its
        chosen epoch are.
        """
        run, trained = stage.run, stage.read_trial(trial)
        tags = {PARENT_TAG: parent.run_id, TRIAL_TAG: trial.name, STAGE_TAG: "train"}
        found = recording.find_runs(self.client, self.experiment_id, tags)
        tags |= {GROUP_TAG: run.group}
        tags |= {name: value for name, value in run.tags.items() if name in CODE_TAGS}
        inputs = {name: value.model_dump() for name, value in stage.info.inputs.items()}
        tags |= provenance.describe_lineage(inputs)
        target, _ = self._find_or_make(
            found[0] if found else None, name=trial.name, start=to_ms(run.start), tags=tags
        )
        target.add_params(_trial_params(run.params, trial, trained))
        if trained is not None:
            curve = _curve(trained, run.start, trained.created)
        else:
            values = {
                "validation/accuracy": trial.validation_accuracy,
                "validation/loss": trial.validation_loss,
            }
            curve = [(trial.chosen_epoch, to_ms(run.end), values)]
        target.add_curve(curve)
        end = trained.created if trained else run.end
        target.end(_TRIAL_STATUS[trial.status], to_ms(end), trial.reason)
        parent.num_added += target.num_added

    def _complete_training(
        self, stage: FinishedStage, metrics: Metrics, tags: Mapping[str, str]
    ) -> None:
        """Add what an evaluation says of the training, if that is in the same output."""
        scored = stage.info.inputs.get("scored")
        for other in self.stages:
            model = other.info.inputs.get("model")
            is_scored = scored is not None and other.info.fingerprint == scored.fingerprint
            if is_scored and model and model.training:
                target = self.trainings.get(model.training.fingerprint)
                if target is not None:
                    target.add_metrics(metrics, to_ms(stage.run.end))
                    target.add_tags({k: v for k, v in tags.items() if k in _TAGS})

    def _register(self, stage: FinishedStage, run_id: str) -> int:
        """Register the model of a training, unless the store has it; return how many it was."""
        from sentiflow.tracking import registry  # it takes a second, and few imports need it

        name, model = stage.run.experiment, stage.info.model_fingerprint
        if registry.find_version(self.client, name, model) is not None:
            return 0
        registry.register(stage.model_uri, name=name, tracking_uri=self.tracking_uri, run_id=run_id)
        return 1


def send(stages: Sequence[FinishedStage], *, tracking_uri: str) -> list[ImportedRun]:
    """Complete the runs of finished stages in a store, and make those that it does not have.

    What a run has already stays as it is, so that a second call changes nothing.

    Args:
        stages: In the order in which they build on each other.
        tracking_uri: The store.

    Raises:
        UserError: There is no such store, or a model package is damaged.
        UnavailableError: The store does not answer; what was added is found by the next call.
        JobError: The store refuses something.
    """
    done: list[ImportedRun] = []
    for experiment, group in groupby(stages, key=lambda stage: stage.run.experiment):
        store = recording.open_store(tracking_uri, experiment=experiment, required=True)
        client = mlflow_store.make_client(tracking_uri)
        importing = _Import(client, tracking_uri, store.experiment_id, stages)
        for stage in group:
            done.append(_ask(tracking_uri, stage, importing.complete))
    return done


def _ask(
    tracking_uri: str, stage: FinishedStage, complete: Callable[[FinishedStage], ImportedRun]
) -> ImportedRun:
    try:
        with mlflow_store.patient():
            return mlflow_store.ask(lambda: complete(stage))
    except (JobError, UserError):
        raise
    except mlflow_store.failures() as error:
        if mlflow_store.is_refusal(error):
            reason = mlflow_store.first_line(error)
            raise JobError(
                f"MLflow refuses a part of the run {stage.run.name}: {reason}"
            ) from error
        raise UnavailableError(mlflow_store.unreachable(tracking_uri, error)) from error


def _curve(
    info: StageInfo, start: datetime, end: datetime
) -> list[tuple[int, int, Mapping[str, float | None]]]:
    """List the epochs of a training, each with its time and its metrics.

    Where the manifest has no times, the epochs divide the time of the run evenly.
    """
    epochs = [(_PRETRAINING_METRICS, epoch) for epoch in info.pretraining]
    epochs += [(_EPOCH_METRICS, epoch) for epoch in info.history]
    share = (end - start) / max(1, len(epochs))
    return [
        (epoch.epoch, to_ms(epoch.ended or start + share * number), _name(epoch, names))
        for number, (names, epoch) in enumerate(epochs, start=1)
    ]


def _name(epoch: Epoch, names: Mapping[str, str]) -> dict[str, float | None]:
    """Name the metrics of an epoch as MLflow has them."""
    values = epoch.model_extra or {}
    known = {name: values.get(key) for name, key in names.items()}
    return {k: float(v) for k, v in known.items() if isinstance(v, int | float)}


def _trial_params(
    base: Mapping[str, str], trial: TrialInfo, trained: StageInfo | None
) -> dict[str, str]:
    """Derive the settings of a trial from the sweep's, its own values and its manifest."""
    settings = {"train": trained.settings} if trained else {}
    replaced = tuple(f"train.{name}" for name in settings.get("train", {}))
    shared: Iterable[tuple[str, str]] = (
        (key, value)
        for key, value in base.items()
        if key.startswith("train.") and not key.startswith(replaced)
    )
    return {**dict(shared), **to_params(settings), **to_params(trial.values)}
