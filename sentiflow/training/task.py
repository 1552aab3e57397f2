"""Job of a training -> one worker's part of it: checkpoints, history, a model package."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import numpy as np
import safetensors.numpy
import torch

from sentiflow.cluster import memory
from sentiflow.config.train_sections import TrainSettings
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
    linear_texts,
    trained_package,
)
from sentiflow.training.linear_choice import LinearChoice
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
"""The peak of the one-cycle schedule in pretraining."""
_NUM_NEGATIVES = 500
"""Negative words of the sampled softmax in pretraining."""
_NUM_CHECKPOINTS = 2
"""Number of the latest checkpoints that are kept, besides the checkpoint of the best epoch."""
_REPORT_EVERY_SECONDS = 1.0
"""Shortest time between two reports of steps."""

Report = Callable[[Event], None]
"""Takes the events of a training while it runs."""
IsLeaving = Callable[[], bool]
"""Says once for each node with a worker that is about to go that it is."""


def run(
    job: TrainJob, report: Report, is_leaving: IsLeaving = lambda: False
) -> TrainReport | Exception | None:
    """Train in one of the worker processes, which all make the same steps together.

    The linear models are fitted first: that takes little time, so a training that is resumed fits
    them again. The network resumes from the last checkpoint if there is one.

    Args:
        job: The same in every worker.
        report: Takes the events of the training; the worker of rank 0 calls it.
        is_leaving: Says once for each node that is about to go that it is; then a checkpoint is
            saved. The worker of rank 0 calls it.

    Returns:
        The report from rank 0, and None from the others. An error that new workers would meet
        again is returned by every rank: if it were raised, Ray Train would restart the workers.
    """
    torch.set_num_threads(job.num_threads)
    memory.keep_freed()
    problem = ""
    try:
        worker = _Worker(job, report, is_leaving)
    except UserError as error:
        problem = str(error)
    problems = [each for each in collectives.gather(problem) if each]
    if problems:
        return UserError(problems[0])
    with filesystem.recording(functools.partial(_check_job, job)):
        began = time.monotonic()
        linear = worker.fit_linear()
        linear_seconds = time.monotonic() - began if linear else 0.0
        worker.report_start()
        try:
            worker.train()
        except JobError as error:
            return error
        if worker.rank != 0:
            return None
        return worker.publish_model(linear, linear_seconds)


def _check_job(job: TrainJob) -> None:
    """Check before each file that this job may still write, and that its data still exist.

    Raises:
        RuntimeError: The job may not write, or the data are gone. It is raised, so that Ray Train
            ends all workers: if one worker returned it, the others would wait for this worker.
    """
    try:
        lease.check(job.claim)
        if job.watched:
            input_files.check_part(job.watched, ())
    except JobError as error:
        raise RuntimeError(str(error)) from error


class _Worker:
    """One worker of a training: its input, its network, and the epochs so far.

    A training has one or two phases, pretraining and training, and a trainer for each.
    """

    def __init__(self, job: TrainJob, report: Report, is_leaving: IsLeaving) -> None:
        """Read the input, build the network, and resume from the last checkpoint."""
        self.job = job
        self.is_leaving = is_leaving
        self.settings = job.settings
        self.rank = collectives.rank()
        self.world_size = collectives.world_size()
        self.report: Report = report if self.rank == 0 else lambda event: None
        self.root = job.checkpoints_uri
        self.words = self._read_words()
        first = self._load_first_model()
        if first is not None:
            self.words = initial_network.join_words(self.words, first)
        self.own = own_shards(self.rank, self.world_size, self.settings.batching.num_shards)
        self.classes = learned_classes.choose(job.prepared, self.settings, job.splits)
        self.device = _choose_device(job, self.world_size)
        self.network = initial_network.build(
            self.settings, self.words, classes=self.classes.names, initial=first
        ).to(self.device)
        self._plan_input()
        self.history = History(self.settings.selection)
        self.pretraining: list[EpochResult] = []
        self._resume()
        self.saved_at = time.monotonic()
        self.reported_at = self.saved_at

    def _read_words(self) -> vocabulary.Vocabulary:
        """Read the vocabulary of the prepared data."""
        content = manifest.read_file(
            self.settings.prepared_uri, self.job.prepared, "vocabulary.parquet"
        )
        return vocabulary.from_table(parquet.from_bytes(content))

    def _load_first_model(self) -> ModelPackage | None:
        """Load the model that the training starts from, if there is one."""
        if self.settings.init_from is None:
            return None
        return ModelPackage.load(self.settings.init_from, setting="train.init_from")

    def _plan_input(self) -> None:
        """Plan the batches of the training rows, and this worker's share of the validation rows."""
        job = self.job
        self.train_input = self._make_input(
            job.list_train_files("encoded"), is_taught=job.taught is not None
        )
        has_known_word = self.train_input.counts[:, :, 1:].any()
        if not has_known_word:
            raise UserError("no training row has a known word", hint="check prepare.vocabulary")
        validation = self._plan_shards(job.list_files("encoded", job.validation_splits))
        self.validation = OwnRows(validation, own=self.own)

    def _plan_shards(self, files: Mapping[str, int], *, is_taught: bool = False) -> VirtualShards:
        """Cut files into virtual shards, with the labels of the model.

        Files with the answers of teachers have these labels already.
        """
        positions = None if is_taught else self.classes.positions
        return VirtualShards.plan(
            files, positions=positions, num_shards=self.settings.batching.num_shards
        )

    def _make_input(self, files: Mapping[str, int], *, is_taught: bool) -> TrainInput:
        """Describe the batches of the rows of some files. All workers call this together.

        Each worker counts the lengths of its own rows, and gets the counts of the others.
        """
        batching = self.settings.batching
        shards = self._plan_shards(files, is_taught=is_taught)
        max_length = self.job.prepared["settings"]["max_length"]
        own_counts = shards.count_lengths(self.own, max_length=max_length)
        return TrainInput(
            shards,
            own=self.own,
            counts=np.sum(collectives.gather(own_counts), axis=0),
            batch_size=batching.global_batch_size,
            bucketing=batching.bucketing,
            drop_last=batching.drop_last,
            keep_empty=not self.network.needs_token,
            seed=self.settings.seed,
        )

    def _resume(self) -> None:
        """Continue the phase of the last checkpoint, or begin the first phase.

        If no network is trained, a checkpoint has no use. An earlier version may have left one.
        """
        last = checkpoints.load_last(self.root) if self.job.trains_network else None
        if last is not None:
            self.pretraining = read_epochs(last.state["pretraining"])
            self.history.epochs = read_epochs(last.state["history"])
        is_pretrained = len(self.pretraining) == self.job.num_epochs[PRETRAIN]
        self._begin_phase(TRAIN if is_pretrained else PRETRAIN)
        if last is not None:
            if last.state["phase"] == self.phase:
                self.trainer.resume(last.tensors, last.state["position"])
            else:  # it was saved at the end of pretraining
                self._load_network(last)

    def _begin_phase(self, phase: Phase) -> None:
        """Make the trainer of a phase; the network keeps its weights.

        ``first_step`` and ``first_row`` count the steps and rows of the phase before it.
        """
        self.phase = phase
        self.first_step = 0
        self.first_row = 0
        if phase == PRETRAIN:
            self.trainer = self._make_pretrainer()
            return
        if self.pretraining:
            self.first_step = self.pretraining[-1].step
            self.first_row = self._count_pretraining_rows()
        objective = ClassificationObjective(
            self.network,
            class_weights=self.classes.weights,
            hard_weight=self.settings.distill.hard_weight,
            neighbor_weight=self.job.neighbor_weights[-1],
        )
        self.trainer = self._make_trainer(self.settings, objective, self.train_input)

    def _make_pretrainer(self) -> Trainer:
        """Make the trainer of pretraining, which also reads the unlabelled texts."""
        settings = self.settings.model_copy(
            update={
                "num_epochs": self.settings.pretrain.num_epochs,
                "learning_rate": PRETRAIN_LEARNING_RATE,
                "schedule": "one_cycle",
            }
        )
        train = self.train_input
        unlabelled = manifest.rows_by_file(self.job.prepared, settings.prepared_uri, ["unlabelled"])
        if unlabelled:
            files = self.job.list_files("encoded", self.job.splits)
            train = self._make_input(files | unlabelled, is_taught=False)
        objective = LanguageModeling(
            self.network,
            counts=self.words.estimate_counts(),
            num_negatives=_NUM_NEGATIVES,
            seed=settings.seed,
        )
        return self._make_trainer(settings, objective, train)

    def _make_trainer(
        self,
        settings: TrainSettings,
        objective: ClassificationObjective | LanguageModeling,
        train: TrainInput,
    ) -> Trainer:
        return Trainer(
            settings=settings,
            objective=objective.to(self.device),
            train=train,
            validation=self.validation,
            device=self.device,
        )

    def _count_pretraining_rows(self) -> int:
        """Count the rows of all epochs of pretraining."""
        num_rows = self.train_input.num_rows
        if self.job.taught:
            num_rows = self.classes.num_rows
        num_rows += self.classes.num_unlabelled
        return num_rows * self.job.num_epochs[PRETRAIN]

    def _load_network(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Load only the network's weights from a checkpoint of either phase."""
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
        """Train an epoch, add its result to the finished ones, and save and report it."""
        result = self.trainer.train_epoch(self._after_step)
        finished.append(replace(result, step=self.first_step + result.step))
        self._save()
        self.report(self._describe_progress())

    def _after_step(self) -> None:
        """Save a checkpoint and report the metrics of the last steps when it is time for that."""
        if self.rank != 0:
            return
        now = time.monotonic()
        every_minutes = self.settings.checkpoints.every_minutes
        is_due = every_minutes is not None and now - self.saved_at >= 60 * every_minutes
        if is_due or self.is_leaving():
            self._save()
        if now - self.reported_at >= _REPORT_EVERY_SECONDS:
            self.reported_at = now
            metrics = self.trainer.take_step_metrics()
            self.report(self._describe_progress(metrics=metrics))

    def _save(self) -> None:
        """Write a checkpoint, unless a loss is not finite, and delete old ones."""
        if self.rank != 0 or not self.trainer.is_finite:
            return
        state = {
            "phase": self.phase,
            "position": self.trainer.position(),
            "pretraining": [asdict(epoch) for epoch in self.pretraining],
            "history": [asdict(epoch) for epoch in self.history.epochs],
        }
        checkpoint = checkpoints.Checkpoint(
            step=self.first_step + self.trainer.step,
            tensors=self.trainer.tensors(),
            state=state,
        )
        checkpoints.save(self.root, checkpoint)
        best = self.history.best
        checkpoints.keep(self.root, last=_NUM_CHECKPOINTS, best=best.step if best else None)
        self.saved_at = time.monotonic()

    def report_start(self) -> None:
        """Report that the training of the network begins, or resumes."""
        self.report(self._describe_progress(is_start=True))

    def _describe_progress(
        self, *, is_start: bool = False, metrics: dict[str, float] | None = None
    ) -> Event:
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

    def fit_linear(self) -> dict[LinearChoice, LinearModel]:
        """Fit the linear models to choose from."""
        if not self.settings.linear:
            return {}
        from sentiflow.training import linear_solver

        is_taught = self.job.taught is not None
        texts = linear_texts.read(
            self._plan_shards(self.job.list_train_files("tweets"), is_taught=is_taught),
            self.own,
            num_taught_classes=len(self.classes.names) if is_taught else None,
        )
        tokens = tokenizer.tokenize(texts.text, name=self.job.prepared["settings"]["tokenizer"])
        ngrams = Ngrams.of(tokens)
        models = {}
        for neighbor_weight in self.job.neighbor_weights:
            targets = linear_texts.make_targets(
                texts,
                self.classes,
                hard_weight=self.settings.distill.hard_weight,
                neighbor_weight=neighbor_weight,
            )
            for strength, model in linear_solver.fit(ngrams, targets):
                models[LinearChoice(strength, neighbor_weight)] = model
        return models

    def publish_model(
        self, linear: Mapping[LinearChoice, LinearModel], linear_seconds: float
    ) -> TrainReport:
        """Publish the model of the chosen epoch, and in a fold all linear models.

        Args:
            linear: The linear models to choose from.
            linear_seconds: The time that they took.
        """
        if self.job.linear_uri:
            for choice, model in linear.items():
                uri = join(self.job.linear_uri, choice.name)
                filesystem.write_bytes(uri, safetensors.numpy.save(model.tensors()))
        chosen = self.history.chosen if self.job.trains_network else None
        if chosen and chosen.step != self.first_step + self.trainer.step:
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
            chosen_epoch=chosen.epoch if chosen else 0,
            package=package,
            rows_without_token=self.train_input.num_without_token,
            device=self.device.type,
            precision="bf16" if self.trainer.uses_bf16 else "fp32",
            linear_seconds=linear_seconds,
        )


def _choose_device(job: TrainJob, world_size: int) -> torch.device:
    """Choose the device, the same in all workers.

    Raises:
        UserError: A worker was given a GPU that torch cannot use. A single worker uses its cores
            then, unless the settings ask for a GPU.
    """
    if not job.on_gpu:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if world_size > 1 or job.settings.gpus_per_worker == 1:
        raise UserError(
            "Ray counts a GPU that torch cannot use",
            hint="install a build of torch for it, or set train.gpus_per_worker=0",
        )
    return torch.device("cpu")
