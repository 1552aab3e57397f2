"""Manifests of finished stages -> their MLflow runs, completed or made anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any, Literal

from sentiflow.data.manifest import CARD
from sentiflow.data.manifest_types import EPOCH_METRICS, PRETRAINING_METRICS
from sentiflow.tracking import mlflow_store, pages, provenance, recording, runs
from sentiflow.tracking.finished_stages import (
    Epoch,
    FinishedStage,
    RunPartInfo,
    StageInfo,
    TrialInfo,
)
from sentiflow.tracking.runs import (
    CODE_TAGS,
    GROUP_TAG,
    NOTE_TAG,
    PARENT_TAG,
    REASON_TAG,
    SCORED_FINGERPRINT_TAG,
    SCORED_TAG,
    STAGE_TAG,
    TRIAL_TAG,
    Status,
    to_metrics,
    to_ms,
    to_params,
    to_tags,
)

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Metric, Run

_TAGS = {*CODE_TAGS, SCORED_TAG, SCORED_FINGERPRINT_TAG, NOTE_TAG}
"""Tags that are taken from a manifest; any others are ignored."""
_TRIAL_STATUS: dict[str, Status] = {
    "finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"
}  # fmt: skip


@dataclass(frozen=True)
class ImportedRun:
    """A run that the store has now."""

    name: str
    outcome: Literal["added", "complete"]
    """``complete``: it was there, and lacks nothing now."""


@dataclass(frozen=True)
class _Import:
    """Adds to the store the runs of stages that belong to one experiment."""

    client: MlflowClient
    tracking_uri: str
    experiment_id: str
    stages: Sequence[FinishedStage]
    trainings: dict[str, Run] = field(default_factory=dict)
    """Runs of trainings, by the fingerprint of the training."""

    def add(self, stage: FinishedStage) -> ImportedRun:
        """Add to the store what it lacks of a stage."""
        described, info, end = stage.run, stage.info, to_ms(stage.run.end)
        tags = {STAGE_TAG: info.stage, GROUP_TAG: described.group, **_choose_tags(described.tags)}
        tags |= {provenance.OUTPUT_TAG: stage.uri, provenance.FINGERPRINT_TAG: info.fingerprint}
        tags |= provenance.describe_lineage(_describe_inputs(info))
        metrics = _to_points(described.metrics, end, 0) + _list_epochs(info, described.end)
        found = self._find(stage)
        run = found or self._make(described.name, tags, described.start)
        datasets = runs.to_datasets(_describe_inputs(info), stage=info.stage)
        runs.add_datasets(self.client, run.info.run_id, datasets)
        self._add_files(run.info.run_id, stage)
        self._complete(run, tags, metrics, params=described.params, status="FINISHED", end=end)
        for trial in info.trials:
            self._add_trial(stage, run, trial)
        if info.stage == "train":
            self.trainings[info.fingerprint] = run
            if described.registers_model:
                note = described.tags.get(NOTE_TAG, "")
                self._register(stage, info.model_fingerprint, run.info.run_id, note=note)
        if info.stage == "evaluate" and described.training:
            self._add_to_training(stage, described.training, run)
        return ImportedRun(described.name, "complete" if found else "added")

    def _find(self, stage: FinishedStage) -> Run | None:
        """Find a stage's run: it has the same group, stage and, if it has one, fingerprint."""
        tags = {GROUP_TAG: stage.run.group, STAGE_TAG: stage.info.stage}
        own = stage.info.fingerprint
        found = [
            run
            for run in runs.find(self.client, self.experiment_id, tags)
            if run.data.tags.get(provenance.FINGERPRINT_TAG, own) == own
            and PARENT_TAG not in run.data.tags
        ]
        logged = stage.run.mlflow_run_id
        return min(found, key=lambda run: run.info.run_id != logged, default=None)

    def _make(self, name: str, tags: Mapping[str, str], start: datetime) -> Run:
        experiment = self.experiment_id
        return runs.make(self.client, experiment_id=experiment, name=name, tags=tags, start=start)

    def _complete(
        self,
        run: Run,
        tags: Mapping[str, str],
        metrics: Sequence[Metric],
        *,
        params: Mapping[str, Any] | None = None,
        status: Status | None = None,
        end: int = 0,
        reason: str = "",
    ) -> None:
        """Add what a run lacks, and nothing else; without a status, it does not end."""
        client, run_id, data = self.client, run.info.run_id, run.data
        params = {k: v for k, v in to_params(params or {}).items() if k not in data.params}
        tags = {k: v for k, v in to_tags(tags).items() if k not in data.tags}
        by_epoch = {metric.key for metric in metrics if metric.step}
        points = {(name, 0) for name in data.metrics} | {
            (name, point.step)
            for name in by_epoch & data.metrics.keys()
            for point in client.get_metric_history(run_id, name)
        }
        metrics = [item for item in metrics if (item.key, item.step) not in points]
        runs.log(client, run_id, metrics=metrics, params=params, tags=tags)
        if status and run.info.status != status:
            runs.end(client, run_id, status, end, reason)
            if REASON_TAG in data.tags and not reason:
                client.delete_tag(run_id, REASON_TAG)

    def _add_files(self, run_id: str, stage: FinishedStage) -> None:
        folders = {path.rpartition("/")[0] for path in stage.run.artifacts}
        known = {
            file.path
            for folder in folders
            for file in self.client.list_artifacts(run_id, folder or None)
        }
        missing = {path: stage.read(path) for path in stage.run.artifacts if path not in known}
        if missing:
            runs.add_files(self.client, run_id, missing)

    def _add_trial(self, stage: FinishedStage, parent: Run, trial: TrialInfo) -> None:
        """Add what the store lacks of a trial.

        The curve of a trial that was stopped or failed is in no manifest: only the metrics of its
        chosen epoch are.
        """
        described, trained = stage.run, stage.read_trial(trial)
        tags = {PARENT_TAG: parent.info.run_id, TRIAL_TAG: trial.name, STAGE_TAG: "train"}
        found = runs.find(self.client, self.experiment_id, tags)
        tags |= {GROUP_TAG: described.group, **_choose_tags(described.tags)}
        tags |= provenance.describe_lineage(_describe_inputs(stage.info))
        end = trained.created if trained else described.end
        chosen = {
            "validation/accuracy": trial.validation_accuracy,
            "validation/loss": trial.validation_loss,
            "validation/f1_macro": trial.validation_f1_macro,
        }
        metrics = (
            _list_epochs(trained, end)
            if trained
            else _to_points(chosen, to_ms(end), trial.chosen_epoch)
        )
        metrics += _to_points({"test/accuracy": trial.test_accuracy}, to_ms(end), 0)
        run = found[0] if found else self._make(trial.name, tags, described.start)
        settings = {k: v for k, v in described.params.items() if k.startswith("train.")}
        if trained:
            settings = {f"train.{name}": value for name, value in trained.settings.items()}
        settings |= trial.values | {"train.output_uri": stage.trial_uri(trial)}
        self._complete(
            run,
            tags,
            metrics,
            params={} if run.data.params else settings,
            status=_TRIAL_STATUS[trial.status],
            end=to_ms(end),
            reason=trial.reason,
        )

    def _add_to_training(self, stage: FinishedStage, part: RunPartInfo, evaluated: Run) -> None:
        """Add an evaluation's metrics to the run of the training, if it is among the stages.

        The run of an average, which no training has made, is that of its evaluation.

        Args:
            stage: The evaluation.
            part: What it adds.
            evaluated: Its run.
        """
        scored = stage.info.inputs.get("scored")
        scorings = self._find_stages(scored.fingerprint if scored else "")
        model = scorings[0].info.inputs.get("model") if scorings else None
        if model is None:
            return
        made_by = model.training.fingerprint if model.training else ""
        makers, run = self._find_stages(made_by), self.trainings.get(made_by)
        if model.members:
            makers, run = scorings if model.uri == scorings[0].model_uri else [], evaluated
        if run is None:
            return
        metrics, tags = _to_points(part.metrics, to_ms(stage.run.end), 0), part.tags
        if note := tags.get(NOTE_TAG):
            report_of = evaluated.info.run_id
            tags = tags | {NOTE_TAG: pages.add_report(note, self.experiment_id, report_of)}
        self._complete(run, _choose_tags(tags), metrics)
        for maker in makers if stage.run.registers_model else ():
            card = stage.read(CARD) if CARD in stage.run.artifacts else b""
            note = tags.get(NOTE_TAG, "")
            own = model.fingerprint if model.members else maker.info.model_fingerprint
            self._register(maker, own, run.info.run_id, note=note, card=card)

    def _find_stages(self, fingerprint: str) -> list[FinishedStage]:
        return [stage for stage in self.stages if stage.info.fingerprint == fingerprint]

    def _register(
        self, maker: FinishedStage, model: str, run_id: str, *, note: str = "", card: bytes = b""
    ) -> None:
        """Register the model in a stage's output, unless the store has it.

        Args:
            maker: The training, or the scoring by an average.
            model: Fingerprint of the model package.
            run_id: The run of the model.
            note: A description.
            card: The model card.
        """
        from sentiflow.tracking import registry  # a second to import, and few runs need it

        name, uri = maker.run.experiment, self.tracking_uri
        if registry.find(name, model, tracking_uri=uri):
            return
        version = registry.register(maker.model_uri, name=name, tracking_uri=uri, run_id=run_id)
        registry.describe(version, text=note, tags={}, tracking_uri=uri, card=card)


def send(stages: Sequence[FinishedStage], *, tracking_uri: str) -> list[ImportedRun]:
    """Complete the runs of finished stages in a store, and make those that it does not have.

    What a run has already stays as it is, so that a second call changes nothing.

    Args:
        stages: In the order in which they build on each other.
        tracking_uri: The store.

    Raises:
        UserError: There is no such store, or a model package is damaged.
        UnavailableError: The store does not answer; the next call finds what was added.
        JobError: The store refuses something.
    """
    sent: list[ImportedRun] = []
    for experiment, group in groupby(stages, key=lambda stage: stage.run.experiment):
        store = recording.open_store(tracking_uri, experiment=experiment, required=True)
        with mlflow_store.asking(tracking_uri, "add to runs") as client:
            importing = _Import(client, tracking_uri, store.experiment_id, stages)
            sent += [mlflow_store.ask(partial(importing.add, stage)) for stage in group]
    return sent


def _list_epochs(info: StageInfo, end: datetime) -> list[Metric]:
    """List the metrics of a training's epochs.

    An epoch without a time, from a version that did not note it, gets that of the run's end.
    """
    epochs = [(PRETRAINING_METRICS, epoch) for epoch in info.pretraining]
    epochs += [(EPOCH_METRICS, epoch) for epoch in info.history]
    return [
        point
        for names, epoch in epochs
        for point in _to_points(_name_metrics(epoch, names), to_ms(epoch.ended or end), epoch.epoch)
    ]


def _name_metrics(epoch: Epoch, names: Mapping[str, str]) -> dict[str, float | None]:
    """Name the metrics of an epoch as MLflow has them."""
    values = epoch.model_extra or {}
    known = {name: values.get(key) for name, key in names.items()}
    return {name: value for name, value in known.items() if isinstance(value, int | float)}


def _to_points(metrics: Mapping[str, float | None], time: int, step: int) -> list[Metric]:
    return [Metric(name, value, time, step) for name, value in to_metrics(metrics).items()]


def _choose_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name in _TAGS}


def _describe_inputs(info: StageInfo) -> dict[str, Any]:
    """Describe the inputs of a stage as its manifest does."""
    return {name: value.model_dump() for name, value in info.inputs.items()}
