"""Description of a training -> one worker's part of it: checkpoints, history, a model package."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
import torch.distributed
from torch import nn

from sentiflow.cluster import memory
from sentiflow.config.sections import SelectionSettings, TrainSettings
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import JobError, UserError
from sentiflow.models import networks, vocabulary
from sentiflow.models.batching import EncodedRows
from sentiflow.models.networks import Network
from sentiflow.models.package import ModelPackage
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.storage.uris import join
from sentiflow.training import checkpoints, trained_package
from sentiflow.training.checkpoints import Checkpoint
from sentiflow.training.objectives import VECTORS, ClassificationObjective, LanguageModeling
from sentiflow.training.trainer import Trainer
from sentiflow.training.virtual_shards import OwnRows, TrainInput, VirtualShards, own_shards

MODEL = "model"
PRETRAIN, TRAIN = "pretrain", "train"
_POST_EVERY_SECONDS = 1.0
_VECTORS = f"weights/{VECTORS}"
"""The word vectors in a checkpoint: with all words of GloVe, they are 80 MB."""

Post = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """Everything a training worker needs; it travels to other machines."""

    settings: TrainSettings
    prepared: Manifest
    """The manifest of the prepared data."""
    lineage: dict[str, Any]
    num_threads: int
    on_gpu: bool = False
    """Whether each worker was given a GPU; others see those of their node, and leave them alone."""


@dataclass
class History:
    """The finished epochs, and which of them is the best."""

    selection: SelectionSettings
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """As :class:`trainer.EpochResult`."""

    @property
    def best(self) -> dict[str, Any] | None:
        """The best epoch, the first of equals; None before the first, or without validation."""
        name = f"validation_{self.selection.metric}"
        known = [epoch for epoch in self.epochs if epoch[name] is not None]
        return min(known, key=lambda epoch: self.selection.order(epoch[name]), default=None)

    @property
    def chosen(self) -> dict[str, Any]:
        """The epoch whose weights become the model."""
        return (self.best if self.selection.keep == "best" else None) or self.epochs[-1]

    @property
    def has_had_enough(self) -> bool:
        """Say whether no better epoch is expected any more."""
        patience = self.selection.patience
        if patience is None or self.best is None:
            return False
        return self.epochs[-1]["epoch"] - self.best["epoch"] >= patience


def run(job: Job, post: Post) -> dict[str, Any] | None:
    """Train in one of the worker processes, which step in time with each other.

    It goes on from the last checkpoint where there is one.

    Args:
        job: The same in every worker.
        post: Takes what there is to see, from rank 0: where the training begins (``begins``),
            figures every second, and those of each epoch.

    Returns:
        On rank 0 the ``history``, the manifest of the ``package``, and what of the circumstances
        the result depends on; or, on every rank, the ``problem`` that the user, or the ``failure``
        that nobody but a new run can mend. These are not raised, as Ray would start the workers
        again.
    """
    torch.set_num_threads(job.num_threads)
    memory.keep_freed()
    rank, world_size = _place()
    problem, work = "", None
    try:
        work = _Work(job, post, rank, world_size)
    except UserError as error:
        problem = str(error)
    problems = _gather(problem, world_size)
    if any(problems):
        return {"problem": next(filter(None, problems))}
    assert work is not None, "without a problem there is work"
    try:
        work.train()
    except JobError as error:
        return {"failure": str(error)}
    return work.finish() if rank == 0 else None


class _Work:
    """A worker's part of the training, with what of its results is kept and shown.

    It has one or two phases, each with a trainer of its own: pretraining and training.
    """

    def __init__(self, job: Job, post: Post, rank: int, world_size: int) -> None:
        """Read the input, build the network, and go on from the last checkpoint."""
        self.job, self.settings, self.rank = job, job.settings, rank
        self.world_size = world_size
        self.post: Post = post if rank == 0 else lambda item: None
        self.root = join(self.settings.output_uri, checkpoints.FOLDER)
        self.words = vocabulary.load(join(self.settings.prepared_uri, "vocabulary.parquet"))
        own = own_shards(rank, world_size)
        train, validation = (_plan(job, split) for split in ("train", "validation"))
        self.counts = _count_lengths(train, own, job, world_size)
        if not self.counts[:, :, 1:].any():
            raise UserError("no training row has a known word", hint="check prepare.vocabulary")
        self.device = _choose_device(job, world_size)
        self.network = build(self.settings, self.words).to(self.device)
        self.vectors_are_given = _are_given(self.settings, self.words)
        batching = self.settings.batching
        self.train_input = TrainInput(
            train,
            own=own,
            counts=self.counts,
            batch_size=batching.global_batch_size,
            bucketing=batching.bucketing,
            drop_last=batching.drop_last,
            keep_empty=not self.network.needs_token,
            seed=self.settings.seed,
        )
        self.validation = OwnRows(validation, own=own)
        self.history = History(self.settings.selection)
        self.pretraining: list[dict[str, Any]] = []
        self._go_on()
        self.saved = self.posted = time.monotonic()

    def _go_on(self) -> None:
        """Open the phase of the last checkpoint there, or the first phase at its beginning."""
        found = self._complete(checkpoints.load_last(self.root))
        state = found.state if found is not None else {"pretraining": [], "history": []}
        self.pretraining, self.history.epochs = state["pretraining"], state["history"]
        pretrains = len(self.pretraining) < self.settings.pretrain.num_epochs
        self._open(PRETRAIN if pretrains else TRAIN)
        if found is not None and state["phase"] == self.phase:
            self.trainer.resume(found.tensors, state["position"])
        elif found is not None:
            self._take_network(found)
        finished = {"history": self.history.epochs, "pretraining": self.pretraining}
        begins = self._where("begins") | {"num_workers": self.world_size}
        self.post(begins | {name: list(done) for name, done in finished.items()})

    def _open(self, phase: str) -> None:
        """Make the trainer of a phase, with the network as it is."""
        self.phase, settings = phase, self.settings
        validation: Iterable[EncodedRows] = self.validation
        objective: ClassificationObjective | LanguageModeling = ClassificationObjective(
            self.network
        )
        self.first_step = self.first_row = 0
        if phase == PRETRAIN:
            settings, validation = _pretrain_settings(settings), ()
            objective = LanguageModeling(
                self.network,
                counts=_counts_of(self.words),
                num_negatives=settings.pretrain.num_negatives,
                seed=settings.seed,
            )
        elif settings.pretrain.num_epochs:
            epochs = range(settings.pretrain.num_epochs)
            self.first_step = sum(map(self.train_input.num_steps, epochs))
            self.first_row = self.train_input.num_rows * len(epochs)
        self.trainer = Trainer(
            settings=settings,
            objective=objective.to(self.device),
            train=self.train_input,
            validation=validation,
            rank=self.rank,
            world_size=self.world_size,
            device=self.device,
        )

    def _complete(self, found: Checkpoint | None) -> Checkpoint | None:
        """Add to a checkpoint the vectors that were left out of it."""
        if found is None or not self.vectors_are_given:
            return found
        return replace(found, tensors={_VECTORS: self.network.embedding.weight} | found.tensors)

    def _take_network(self, found: Checkpoint) -> None:
        prefix = "weights/network."
        weights = {
            n.removeprefix(prefix): t for n, t in found.tensors.items() if n.startswith(prefix)
        }
        self.network.load_state_dict(weights)

    def train(self) -> None:
        """Train the epochs that are left.

        Raises:
            JobError: The loss is not finite.
        """
        if self.phase == PRETRAIN:
            while self.trainer.epoch < self.settings.pretrain.num_epochs:
                self._train_epoch(self.pretraining)
            self._open(TRAIN)
        while self.trainer.epoch < self.settings.num_epochs and not self.history.has_had_enough:
            self._train_epoch(self.history.epochs)

    def _train_epoch(self, finished: list[dict[str, Any]]) -> None:
        result = asdict(self.trainer.train_epoch(self._after_step))
        result["step"] += self.first_step
        finished.append(result)
        self._save()
        self.post(self._where("epoch") | {"result": result})

    def _after_step(self) -> None:
        if self.rank:
            return
        now, when, step = time.monotonic(), self.settings.checkpoints, self.trainer.step
        by_time = when.every_minutes is not None and now - self.saved >= 60 * when.every_minutes
        by_step = when.every_steps is not None and step % when.every_steps == 0
        if by_time or by_step:
            self._save()
        if now - self.posted >= _POST_EVERY_SECONDS:
            self.posted = now
            self.post(self._where("step") | self.trainer.take_recent())

    def _save(self) -> None:
        if self.rank or not self.trainer.is_sound:
            return
        state = {
            "phase": self.phase,
            "position": self.trainer.position(),
            "pretraining": self.pretraining,
            "history": self.history.epochs,
        }
        step, tensors = self.first_step + self.trainer.step, self.trainer.tensors()
        if self.vectors_are_given:
            del tensors[_VECTORS]
        checkpoints.save(self.root, Checkpoint(step, tensors, state))
        best = self.history.best
        checkpoints.keep(
            self.root,
            last=self.settings.checkpoints.keep_last,
            best=best["step"] if best else None,
        )
        self.saved = time.monotonic()

    def _where(self, kind: str) -> dict[str, Any]:
        """Say where the training stands; steps and rows are counted from the first phase on."""
        trainer = self.trainer
        return {
            "kind": kind,
            "phase": self.phase,
            "epoch": trainer.epoch,
            "step": self.first_step + trainer.step,
            "num_steps": self.first_step + trainer.num_steps,
            "rows_done": self.first_row + trainer.rows_done,
        }

    def finish(self) -> dict[str, Any]:
        """Publish the model of the chosen epoch."""
        chosen = self.history.chosen
        if chosen["step"] != self.first_step + self.trainer.step:
            found = self._complete(checkpoints.load(self.root, chosen["step"]))
            assert found is not None, "what was there is there"
            self._take_network(found)
        record = trained_package.save(
            join(self.settings.output_uri, MODEL),
            network=self.network.to(self.device),
            words=self.words,
            model=self.settings.model,
            epoch=chosen,
            prepared=self.job.prepared,
            validation=list(_list_files(self.job, "validation", table="tweets")),
            lineage=self.job.lineage,
        )
        return {
            "history": self.history.epochs,
            "pretraining": self.pretraining,
            "chosen_epoch": chosen["epoch"],
            "package": record,
            "rows_without_token": int(self.counts[:, :, 0].sum()),
            "device": self.device.type,
            "precision": "bf16" if self.trainer.uses_bf16 else "fp32",
        }


def _choose_device(job: Job, world_size: int) -> torch.device:
    """Choose where to compute, the same in all workers.

    Raises:
        UserError: A worker was given a GPU that torch cannot use; alone it computes without.
    """
    if job.on_gpu and not torch.cuda.is_available():
        if world_size > 1 or job.settings.gpus_per_worker == 1:
            raise UserError(
                "Ray counts a GPU that torch cannot use",
                hint="install a build of torch for it, or set train.gpus_per_worker=0",
            )
        return torch.device("cpu")
    return torch.device("cuda" if job.on_gpu else "cpu")


def _pretrain_settings(settings: TrainSettings) -> TrainSettings:
    """Make the settings of the first phase."""
    return settings.model_copy(
        update={
            "num_epochs": settings.pretrain.num_epochs,
            "learning_rate": settings.pretrain.learning_rate,
            "schedule": "one_cycle",
            "frozen_epochs": 0,
        }
    )


def _counts_of(words: Vocabulary) -> np.ndarray:
    """Say how often each word occurs; by Zipf's law where nobody has counted."""
    counts = words.counts.to_numpy(zero_copy_only=False).astype(np.float64)
    by_rank = np.nanmax(counts, initial=1.0) / np.arange(1, len(counts) + 1)
    return np.where(np.isnan(counts), by_rank, counts)


def _are_given(settings: TrainSettings, words: Vocabulary) -> bool:
    """Say whether the vectors follow from the inputs alone, so that no checkpoint need have them.

    They do not where a word has none: its vector is drawn, and not the same on every machine.
    """
    assert words.vectors is not None, "prepared words have vectors, if only of NaN"
    return settings.model.vectors == "frozen" and not np.isnan(words.vectors[1:]).any()


def build(settings: TrainSettings, words: Vocabulary) -> Network:
    """Build the network, its word vectors the pretrained ones where there are any.

    Raises:
        UserError: ``init_from`` is a package of another network.
    """
    torch.manual_seed(settings.seed)
    matrix = torch.from_numpy(words.vectors)
    network = networks.build(
        settings.model.model_dump(), vocabulary_size=len(words), embedding_dim=matrix.shape[1]
    )
    known = ~torch.isnan(matrix[:, :1])
    spread = float(matrix[known.squeeze(1)].std()) if known.any() else 1.0
    with torch.no_grad():
        random = torch.randn_like(matrix) * spread
        network.embedding.weight.copy_(torch.where(known, matrix, random))
        network.embedding.weight[vocabulary.PAD_ID] = 0
    if settings.init_from is not None:
        _take_weights(network, words, settings)
    network.embedding.weight.requires_grad_(settings.model.vectors == "tuned")
    return network


def _take_weights(network: nn.Module, words: Vocabulary, settings: TrainSettings) -> None:
    """Start from a package's weights; a word that it does not know keeps its own vector."""
    uri = settings.init_from
    assert uri is not None, "there is a package to start from"
    package = ModelPackage.load(uri, setting="train.init_from")
    theirs, ours = package.network.state_dict(), network.state_dict()
    matrix, vectors = theirs.pop("embedding.weight"), ours.pop("embedding.weight")
    shapes = [{n: tuple(t.shape) for n, t in weights.items()} for weights in (theirs, ours)]
    if matrix.shape[1] != vectors.shape[1]:
        raise UserError(
            f"train.init_from: {uri} has word vectors of {matrix.shape[1]} numbers",
            hint=f"those of the prepared data have {vectors.shape[1]}",
        )
    its, own = package.settings.model, settings.model
    if shapes[0] != shapes[1] or (its.kind, its.pooling) != (own.kind, own.pooling):
        raise UserError(
            f"train.init_from: {uri} is of another network ({its.summary})",
            hint=f"train.model is {own.summary}; all but dropout and vectors must be the same",
        )
    found = pc.index_in(words.words, value_set=package.vocabulary.words)
    place = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
    known = np.flatnonzero(place >= 0)
    with torch.no_grad():
        network.load_state_dict(theirs, strict=False)
        network.embedding.weight[known] = matrix[place[known]]


def _plan(job: Job, split: str) -> VirtualShards:
    """Cut a split into shards; how many rows its files have stands in the manifest."""
    rows = _list_files(job, split, table="encoded")
    return VirtualShards.plan(list(rows), sizes=list(rows.values()))


def _list_files(job: Job, split: str, *, table: str) -> dict[str, int]:
    """List the files of a table in their order, with the rows of each."""
    prefix = f"{table}/split={split}/"
    files = [item for item in job.prepared["files"] if item["path"].startswith(prefix)]
    files.sort(key=lambda item: item["path"])
    return {join(job.settings.prepared_uri, item["path"]): item["rows"] for item in files}


def _count_lengths(shards: VirtualShards, own: range, job: Job, world_size: int) -> np.ndarray:
    """Count the lengths in all shards, each worker in its own."""
    counts = shards.count_lengths(own, max_length=job.prepared["settings"]["max_length"])
    if world_size == 1:
        return counts
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    shared = torch.from_numpy(counts).to(device)
    torch.distributed.all_reduce(shared)
    return shared.cpu().numpy()


def _gather(text: str, world_size: int) -> list[str]:
    """Let every worker know a text of each."""
    if world_size == 1:
        return [text]
    texts: list[str] = [""] * world_size
    torch.distributed.all_gather_object(texts, text)
    return texts


def _place() -> tuple[int, int]:
    """Find this worker's rank and the number of workers."""
    if torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
