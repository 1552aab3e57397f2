"""Description of a training -> one worker's part of it: checkpoints, history, a model package."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch

from sentiflow.cluster import memory
from sentiflow.data import input_files, manifest
from sentiflow.errors import JobError, UserError
from sentiflow.models import tokenizer, vocabulary
from sentiflow.models.linear import LinearModel
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.package import ModelPackage
from sentiflow.storage import filesystem, lease, parquet
from sentiflow.storage.uris import join
from sentiflow.training import (
    checkpoints,
    collectives,
    initial_network,
    learned_classes,
    trained_package,
)
from sentiflow.training.objectives import ClassificationObjective, LanguageModeling
from sentiflow.training.reports import (
    PRETRAIN,
    TRAIN,
    EpochResult,
    Event,
    History,
    Phase,
    TrainReport,
    read_epochs,
)
from sentiflow.training.train_job import TrainJob
from sentiflow.training.trainer import Trainer
from sentiflow.training.virtual_shards import OwnRows, TrainInput, VirtualShards, own_shards

PRETRAIN_LEARNING_RATE = 3e-3
"""The highest, of one cycle."""
_NUM_NEGATIVES = 500
"""Negative words of the sampled softmax in pretraining."""
_NUM_CHECKPOINTS = 2
"""The last ones are kept, beside that of the best epoch."""
_REPORT_EVERY_SECONDS = 1.0

Report = Callable[[Event], None]
"""Takes what a training reports while it runs."""


def run(job: TrainJob, report: Report) -> TrainReport | Exception | None:
    """Train in one of the worker processes, which all make the same steps together.

    The training resumes from the last checkpoint if there is one.

    Args:
        job: The same in every worker.
        report: Takes the events of the training; the worker of rank 0 calls it.

    Returns:
        The report from rank 0, and None from the others. An error that new workers would meet
        again is returned by every rank: if it were raised, Ray Train would restart the workers.
    """
    torch.set_num_threads(job.num_threads)
    memory.keep_freed()
    problem = ""
    try:
        worker = _Worker(job, report)
    except UserError as error:
        problem = str(error)
    if problems := list(filter(None, collectives.gather(problem))):
        return UserError(problems[0])
    with filesystem.recording(functools.partial(_check_job, job)):
        try:
            worker.train()
        except JobError as error:
            return error
        linear = worker.fit_linear()
        return worker.publish_model(linear) if worker.rank == 0 else None


def _check_job(job: TrainJob) -> None:
    """Check before each file that this job may still write, and that its data are still there.

    Raises:
        RuntimeError: That is not so. Ray Train then ends all workers; a returned error of one
            worker would leave the others waiting for it.
    """
    try:
        lease.check(job.claim)
        if prepared := job.lineage.get("prepared"):
            input_files.check_part(prepared, ())
    except JobError as error:
        raise RuntimeError(str(error)) from error


class _Worker:
    """One worker of a training: its input, its network, and the epochs so far.

    A training has one or two phases, pretraining and training, and a trainer for each.
    """

    def __init__(self, job: TrainJob, report: Report) -> None:
        """Read the input, build the network, and resume from the last checkpoint."""
        self.job, self.settings = job, job.settings
        self.rank, self.world_size = collectives.rank(), collectives.world_size()
        self.report: Report = report if self.rank == 0 else lambda event: None
        self.root = job.checkpoints_uri
        words = manifest.read_file(self.settings.prepared_uri, job.prepared, "vocabulary.parquet")
        self.words = vocabulary.from_table(parquet.from_bytes(words))
        first = None
        if self.settings.init_from is not None:
            first = ModelPackage.load(self.settings.init_from, setting="train.init_from")
            self.words = initial_network.join_words(self.words, first)
        self.own = own_shards(self.rank, self.world_size, self.settings.batching.num_shards)
        self.classes = learned_classes.choose(job.prepared, self.settings, job.splits)
        self.device = _choose_device(job, self.world_size)
        self.network = initial_network.build(
            self.settings, self.words, classes=self.classes.names, first=first
        ).to(self.device)
        files = job.taught if job.taught is not None else job.list_files("encoded", job.splits)
        self.train_input = self._make_input(files)
        if not self.train_input.counts[:, :, 1:].any():
            raise UserError("no training row has a known word", hint="check prepare.vocabulary")
        validation = self._plan(job.list_files("encoded", job.validation_splits))
        self.validation = OwnRows(validation, own=self.own)
        self.history = History(self.settings.selection)
        self.pretraining: list[EpochResult] = []
        self._resume()
        self.saved_at = self.reported_at = time.monotonic()

    def _plan(self, files: Mapping[str, int]) -> VirtualShards:
        """Cut files into virtual shards, with the labels of the model."""
        positions = None if files is self.job.taught else self.classes.positions
        return VirtualShards.plan(
            files, positions=positions, num_shards=self.settings.batching.num_shards
        )

    def _make_input(self, files: Mapping[str, int]) -> TrainInput:
        """Describe the batches of the rows of some files; the workers count their lengths."""
        batching, shards = self.settings.batching, self._plan(files)
        counts = shards.count_lengths(
            self.own, max_length=self.job.prepared["settings"]["max_length"]
        )
        return TrainInput(
            shards,
            own=self.own,
            counts=np.sum(collectives.gather(counts), axis=0),
            batch_size=batching.global_batch_size,
            bucketing=batching.bucketing,
            drop_last=batching.drop_last,
            keep_empty=not self.network.needs_token,
            seed=self.settings.seed,
        )

    def _resume(self) -> None:
        """Continue the phase of the last checkpoint, or begin the first phase."""
        last = checkpoints.load_last(self.root)
        if last is not None:
            self.pretraining = read_epochs(last.state["pretraining"])
            self.history.epochs = read_epochs(last.state["history"])
        is_pretrained = len(self.pretraining) == self.job.num_epochs[PRETRAIN]
        self._begin_phase(TRAIN if is_pretrained else PRETRAIN)
        if last is not None and last.state["phase"] == self.phase:
            self.trainer.resume(last.tensors, last.state["position"])
        elif last is not None:
            self._load_network(last)
        self.report(self._event(is_start=True))

    def _begin_phase(self, phase: Phase) -> None:
        """Make the trainer of a phase; the network keeps its weights."""
        self.phase, settings = phase, self.settings
        objective: ClassificationObjective | LanguageModeling = ClassificationObjective(
            self.network,
            class_weights=self.classes.weights,
            hard_weight=self.settings.distill.hard_weight,
        )
        self.first_step = self.first_row = 0
        train = self.train_input
        if phase == PRETRAIN:
            settings = settings.model_copy(
                update={
                    "num_epochs": settings.pretrain.num_epochs,
                    "learning_rate": PRETRAIN_LEARNING_RATE,
                    "schedule": "one_cycle",
                }
            )
            if unlabelled := manifest.list_tables(
                self.job.prepared, settings.prepared_uri, ["unlabelled"]
            ):
                files = self.job.list_files("encoded", self.job.splits)
                train = self._make_input(files | unlabelled)
            objective = LanguageModeling(
                self.network,
                counts=self.words.estimate_counts(),
                num_negatives=_NUM_NEGATIVES,
                seed=settings.seed,
            )
        elif self.pretraining:
            self.first_step = self.pretraining[-1].step
            num_rows = int(self.classes.counts.sum()) if self.job.taught else train.num_rows
            num_rows += learned_classes.count_unlabelled(self.job.prepared)
            self.first_row = num_rows * self.job.num_epochs[PRETRAIN]
        self.trainer = Trainer(
            settings=settings,
            objective=objective.to(self.device),
            train=train,
            validation=self.validation,
            device=self.device,
        )

    def _load_network(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Load the network's weights from a checkpoint of either phase."""
        self.network.load_state_dict(checkpoints.find_below(checkpoint.tensors, "weights/network."))

    def train(self) -> None:
        """Train the remaining epochs of both phases.

        Raises:
            JobError: The loss is not finite.
        """
        if self.phase == PRETRAIN:
            while len(self.pretraining) < self.job.num_epochs[PRETRAIN]:
                self._train_epoch(self.pretraining)
            self._begin_phase(TRAIN)
        while self.trainer.epoch < self.job.num_epochs[TRAIN]:
            self._train_epoch(self.history.epochs)

    def _train_epoch(self, finished: list[EpochResult]) -> None:
        result = self.trainer.train_epoch(self._after_step)
        finished.append(replace(result, step=self.first_step + result.step))
        self._save()
        self.report(self._event())

    def _after_step(self) -> None:
        if self.rank:
            return
        now, when = time.monotonic(), self.settings.checkpoints
        if when.every_minutes is not None and now - self.saved_at >= 60 * when.every_minutes:
            self._save()
        if now - self.reported_at >= _REPORT_EVERY_SECONDS:
            self.reported_at = now
            self.report(self._event(metrics=self.trainer.take_step_metrics()))

    def _save(self) -> None:
        """Write a checkpoint, unless a loss is not finite, and delete old ones."""
        if self.rank or not self.trainer.is_finite:
            return
        state = {
            "phase": self.phase,
            "position": self.trainer.position(),
            "pretraining": [asdict(epoch) for epoch in self.pretraining],
            "history": [asdict(epoch) for epoch in self.history.epochs],
        }
        step, tensors = self.first_step + self.trainer.step, self.trainer.tensors()
        checkpoints.save(self.root, checkpoints.Checkpoint(step, tensors, state))
        best = self.history.best
        checkpoints.keep(self.root, last=_NUM_CHECKPOINTS, best=best.step if best else None)
        self.saved_at = time.monotonic()

    def _event(self, *, is_start: bool = False, metrics: dict[str, float] | None = None) -> Event:
        """Describe how far the training has come."""
        trainer = self.trainer
        return Event(
            phase=self.phase,
            epoch=trainer.epoch,
            step=self.first_step + trainer.step,
            num_steps=self.first_step + trainer.num_steps,
            rows_done=self.first_row + trainer.rows_done,
            num_workers=self.world_size,
            pretraining=tuple(self.pretraining),
            history=tuple(self.history.epochs),
            is_start=is_start,
            metrics=metrics,
        )

    def fit_linear(self) -> dict[float, LinearModel]:
        """Fit the linear models to choose from, by the strength of their regularization."""
        if not self.settings.linear:
            return {}
        from sentiflow.training import linear_solver

        taught, num_classes = self.job.taught, len(self.classes.names)
        shards = self._plan(taught or self.job.list_files("tweets", self.job.splits))
        chunks, columns = range(shards.num_chunks), ("text", "label", "teacher")
        parts = [
            table
            for shard in self.own
            for table in shards.read(shard, chunks, columns if taught else columns[:2])
        ]
        label = np.concatenate(
            [np.zeros(0, np.int8), *(part["label"].to_numpy() for part in parts)]
        )
        text = pa.chunked_array([c for part in parts for c in part["text"].chunks], pa.string())
        tokens = tokenizer.tokenize(
            text.combine_chunks(), name=self.job.prepared["settings"]["tokenizer"]
        )
        # an unlabelled text has the label -1 and no weight in it
        targets = np.eye(num_classes + 1, num_classes, dtype=np.float32)[label]
        if taught:
            flat = [part["teacher"].combine_chunks().flatten().to_numpy() for part in parts]
            soft = np.concatenate([np.zeros(0, np.float32), *flat]).reshape(-1, num_classes)
            hard = self.settings.distill.hard_weight * (label >= 0)[:, None]
            targets = (hard * targets + (1 - hard) * soft).astype(np.float32)
        if self.classes.weights is not None:
            targets *= self.classes.weights
        return dict(linear_solver.fit(Ngrams.of(tokens), targets))

    def publish_model(self, linear: Mapping[float, LinearModel]) -> TrainReport:
        """Publish the model of the chosen epoch, and in a fold all linear models."""
        if self.job.linear_uri:
            for strength, model in linear.items():
                uri = join(self.job.linear_uri, f"{strength:g}")
                filesystem.write_bytes(uri, safetensors.torch.save(model.tensors()))
        chosen = self.history.chosen
        if chosen.step != self.first_step + self.trainer.step:
            self._load_network(checkpoints.load(self.root, chosen.step))
        package = trained_package.save(
            self.job,
            network=self.network.to(self.device),
            words=self.words,
            classes=self.classes,
            epoch=chosen,
            linear=linear,
        )
        return TrainReport(
            pretraining=self.pretraining,
            history=self.history.epochs,
            chosen_epoch=chosen.epoch,
            package=package,
            rows_without_token=self.train_input.num_without_token,
            device=self.device.type,
            precision="bf16" if self.trainer.uses_bf16 else "fp32",
        )


def _choose_device(job: TrainJob, world_size: int) -> torch.device:
    """Choose the device, the same in all workers.

    Raises:
        UserError: A worker was given a GPU that torch cannot use. A single worker uses its cores
            then, unless the settings ask for a GPU.
    """
    uses_gpu = job.on_gpu and torch.cuda.is_available()
    if job.on_gpu != uses_gpu and (world_size > 1 or job.settings.gpus_per_worker == 1):
        raise UserError(
            "Ray counts a GPU that torch cannot use",
            hint="install a build of torch for it, or set train.gpus_per_worker=0",
        )
    return torch.device("cuda", torch.cuda.current_device()) if uses_gpu else torch.device("cpu")
