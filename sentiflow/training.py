"""Encoded Parquet -> metrics by epoch, a model package.

The batches of an epoch follow from the seed and the epoch alone; with several workers each takes
its slice of every batch, so that the same optimizer steps are made whatever their number.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import nn

from sentiflow import batching, cluster, manifest, models, storage, vocabulary
from sentiflow.batching import EncodedRows
from sentiflow.errors import UserError
from sentiflow.manifest import Claim
from sentiflow.model_package import ModelPackage, PackageSettings
from sentiflow.progress import say
from sentiflow.settings import Config, TrainSettings
from sentiflow.tokenizer import TOKENIZERS
from sentiflow.tracking import Recorder
from sentiflow.uris import join
from sentiflow.vocabulary import Vocabulary

STAGE = "train"
RAY_RECORDS = "ray"
"""Where Ray Train keeps its own records while it runs."""
OWNS = ("model", "checkpoints", RAY_RECORDS)

_EVALUATION_BATCH = 1024
_WARM_UP_FRACTION = 0.3


@dataclass(frozen=True)
class Job:
    """Everything a training worker needs; it travels to other machines."""

    settings: TrainSettings
    prepared: dict[str, Any]
    """The manifest of the prepared data."""
    lineage: dict[str, Any]
    recorder: Recorder
    num_threads: int


@dataclass(frozen=True)
class EpochResult:
    """One epoch's figures, over all workers."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over the epoch's rows, each under the weights of its step."""
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    """At the end of the epoch."""
    seconds: float
    """Of training alone."""
    tweets_per_second: float


def claim(config: Config) -> Claim:
    """Say what training would make.

    Raises:
        UserError: The prepared data are not there, or not complete.
    """
    settings = config.train
    record = manifest.require(settings.prepared_uri, stage="prepare", setting="train.prepared_uri")
    decisive = settings.model_dump(exclude={"prepared_uri", "output_uri", "num_workers"})
    inputs = {"prepared": manifest.reference(settings.prepared_uri, record)}
    return Claim(STAGE, settings.output_uri, decisive, inputs, owns=OWNS)


def run(
    config: Config, recorder: Recorder, *, resources: cluster.Resources, overwrite: bool
) -> dict[str, Any]:
    """Train a model and publish its package; returns the manifest."""
    began = time.monotonic()
    target = claim(config)
    manifest.begin(target, overwrite=overwrite)
    num_workers = resources.train_workers(config.train.num_workers)
    job = Job(
        settings=config.train,
        prepared=manifest.require(
            config.train.prepared_uri, stage="prepare", setting="train.prepared_uri"
        ),
        lineage=target.inputs
        | {"training": {"uri": target.uri, "fingerprint": target.fingerprint}},
        recorder=recorder,
        num_threads=resources.threads_per_train_worker(num_workers),
    )
    say(STAGE, _announce(job, num_workers))
    outcome = cluster.train(
        train_worker,
        job,
        num_workers=num_workers,
        resources=resources,
        storage_path=join(target.uri, RAY_RECORDS),
        on_post=_show_epoch,
    )
    storage.delete(join(target.uri, RAY_RECORDS))
    history, package = outcome["history"], outcome["package"]
    record = manifest.publish(
        target,
        counts={
            "rows": job.prepared["counts"]["encoded"],
            "epochs": len(history),
            "parameters": package["counts"]["parameters"],
        },
        files=[item | {"path": f"model/{item['path']}"} for item in package["files"]],
        seconds=time.monotonic() - began,
        history=history,
        model_fingerprint=package["fingerprint"],
        mlflow_run_id=recorder.run_id,
        num_workers=num_workers,
    )
    rate = float(np.median([epoch["tweets_per_second"] for epoch in history]))
    recorder.log_metrics({"train/seconds": record["seconds"], "train/tweets_per_second": rate})
    return record


def _announce(job: Job, num_workers: int) -> str:
    model, counts = job.settings.model, job.prepared["counts"]
    rows = sum(counts["labels"]["train"][name] for name in ("negative", "positive"))
    directions = "two directions" if model.bidirectional else "one direction"
    return (
        f"{model.cell}({model.hidden_size}), {directions}, {counts['vocabulary_size']:,} words, "
        f"on {rows:,} tweets, {num_workers} worker{'s' if num_workers > 1 else ''}"
    )


def _show_epoch(epoch: dict[str, Any]) -> None:
    say(
        STAGE,
        f"epoch {epoch['epoch']}: loss {epoch['train_loss']:.4f}, "
        f"validation accuracy {epoch['validation_accuracy'] or math.nan:.4f} "
        f"({epoch['seconds']:.1f} s, {epoch['tweets_per_second']:,.0f} tweets/s)",
    )


def train_worker(job: Job, post: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    """Train in one of the worker processes, which step in time with each other.

    Args:
        job: The same in every worker.
        post: Takes the figures of each epoch, on rank 0.

    Returns:
        On rank 0 ``history`` and the package's manifest; None on the others.
    """
    torch.set_num_threads(job.num_threads)
    torch.manual_seed(job.settings.seed)
    rank, world_size = _place()
    words = vocabulary.load(join(job.settings.prepared_uri, "vocabulary.parquet"))
    network = _build(job.settings, words)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = _Trainer(
        settings=job.settings,
        network=network.to(device),
        train=_read_split(job, "train"),
        validation=_read_split(job, "validation"),
        rank=rank,
        world_size=world_size,
        device=device,
    )
    history = []
    for result in trainer.epochs():
        if rank == 0:
            history.append(asdict(result))
            post(history[-1])
            _log_epoch(job.recorder, result)
    if rank:
        return None
    package = _package(job, network, words, trainer.train)
    return {
        "history": history,
        "package": package.save(join(job.settings.output_uri, "model"), lineage=job.lineage),
    }


class _Trainer:
    """The optimization of one network, with what it carries from step to step."""

    def __init__(
        self,
        *,
        settings: TrainSettings,
        network: nn.Module,
        train: EncodedRows,
        validation: EncodedRows,
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        self.settings, self.network = settings, network
        self.train, self.validation = train, validation
        self.rank, self.world_size, self.device = rank, world_size, device
        parameters = [p for p in network.parameters() if p.requires_grad]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        num_steps = sum(len(self._order(epoch)) for epoch in range(settings.num_epochs))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, _learning_rate_factor(settings.schedule, num_steps)
        )

    def epochs(self) -> Iterator[EpochResult]:
        """Train epoch by epoch."""
        for epoch in range(self.settings.num_epochs):
            yield self._train_epoch(epoch)

    def _order(self, epoch: int) -> list[np.ndarray]:
        batching_settings = self.settings.batching
        return batching.order_batches(
            self.train.lengths,
            batch_size=batching_settings.global_batch_size,
            bucketing=batching_settings.bucketing,
            drop_last=batching_settings.drop_last,
            seed=self.settings.seed,
            epoch=epoch,
        )

    def _train_epoch(self, epoch: int) -> EpochResult:
        began = time.monotonic()
        self.network.train()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for rows in self._order(epoch):
            sums += self._step(rows)
        loss, correct, count = self._reduce(sums)
        seconds = time.monotonic() - began
        validation_loss, validation_correct, validation_count = self._evaluate(self.validation)
        return EpochResult(
            epoch=epoch + 1,
            train_loss=loss / count,
            train_accuracy=correct / count,
            validation_loss=validation_loss / validation_count if validation_count else None,
            validation_accuracy=validation_correct / validation_count if validation_count else None,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            seconds=seconds,
            tweets_per_second=count / seconds,
        )

    def _step(self, rows: np.ndarray) -> torch.Tensor:
        """Make one optimizer step on a global batch; returns this worker's sums."""
        own = rows[self.rank :: self.world_size]
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        if len(own):
            loss, sums = self._losses(self.train, own)
            (loss / len(rows)).backward()
        self._add_up_gradients()
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        return sums

    def _losses(self, rows: EncodedRows, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the summed loss of some rows; and loss, correct and count as numbers."""
        batch = batching.collate(rows, chosen)
        labels = batch.labels.to(self.device)
        half = self.settings.precision == "bf16" or (
            self.settings.precision == "auto" and self.device.type == "cuda"
        )
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            logits = self.network(batch.token_ids.to(self.device), batch.lengths.to(self.device))
        loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        correct = (logits.argmax(dim=1) == labels).sum()
        count = torch.tensor(len(chosen), device=self.device)
        return loss, torch.stack([loss.detach().double(), correct.double(), count.double()])

    def _evaluate(self, rows: EncodedRows) -> tuple[float, float, float]:
        """Sum loss, correct answers and count over all rows with a token, over all workers."""
        self.network.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        batches = batching.order_by_length(rows.lengths, batch_size=_EVALUATION_BATCH)
        with torch.inference_mode():
            for chosen in batches[self.rank :: self.world_size]:
                sums += self._losses(rows, chosen)[1]
        return self._reduce(sums)

    def _add_up_gradients(self) -> None:
        """Sum the workers' gradients, in one message; each is already divided by the batch."""
        if self.world_size == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        start = 0
        for parameter in self.parameters:
            stop = start + parameter.numel()
            parameter.grad = flat[start:stop].view_as(parameter)
            start = stop

    def _reduce(self, sums: torch.Tensor) -> tuple[float, float, float]:
        if self.world_size > 1:
            torch.distributed.all_reduce(sums)
        loss, correct, count = sums.tolist()
        return loss, correct, count


def _learning_rate_factor(schedule: str, num_steps: int) -> Callable[[int], float]:
    """Give the factor on the learning rate for each step.

    ``one_cycle``: along a cosine from 1/25 up to 1 in the first 30 % of the steps, then down to
    1e-5 (Smith 2018, with the defaults of PyTorch's OneCycleLR, the last step apart).
    """
    if schedule == "constant":
        return lambda step: 1.0
    peak = max(1.0, _WARM_UP_FRACTION * num_steps)

    def factor(step: int) -> float:
        low, part = (1 / 25, step / peak) if step < peak else (1e-5, _falling(step))
        return low + (1 - low) * (1 - math.cos(math.pi * part)) / 2

    def _falling(step: int) -> float:
        return max(0.0, (num_steps - step) / max(1.0, num_steps - peak))

    return factor


def _build(settings: TrainSettings, words: Vocabulary) -> nn.Module:
    """Build the network, its word vectors the pretrained ones where there are any."""
    matrix = torch.from_numpy(words.vectors)
    network = models.build(
        settings.model.model_dump(), vocabulary_size=len(words), embedding_dim=matrix.shape[1]
    )
    known = ~torch.isnan(matrix[:, :1])
    spread = float(matrix[known.squeeze(1)].std()) if known.any() else 1.0
    with torch.no_grad():
        random = torch.randn_like(matrix) * spread
        network.embedding.weight.copy_(torch.where(known, matrix, random))
        network.embedding.weight[vocabulary.PAD_ID] = 0
    network.embedding.weight.requires_grad_(settings.model.vectors == "tuned")
    return network


def _read_split(job: Job, split: str) -> EncodedRows:
    prefix = f"encoded/split={split}/"
    names = [item["path"] for item in job.prepared["files"] if item["path"].startswith(prefix)]
    rows = EncodedRows.read([join(job.settings.prepared_uri, name) for name in sorted(names)])
    if split == "train" and not (rows.lengths > 0).any():
        raise UserError("no training row has a known word", hint="check prepare.vocabulary")
    return rows


def _package(job: Job, network: nn.Module, words: Vocabulary, train: EncodedRows) -> ModelPackage:
    prepared = job.prepared["settings"]
    settings = PackageSettings(
        model=job.settings.model.model_dump(),
        embedding_dim=network.embedding.embedding_dim,
        tokenizer=prepared["tokenizer"],
        tokenizer_version=TOKENIZERS[prepared["tokenizer"]][0],
        max_length=prepared["max_length"],
        prior=float(train.labels.mean()),
    )
    return ModelPackage(network, words, settings)


def _log_epoch(recorder: Recorder, result: EpochResult) -> None:
    names = {
        "train/loss": result.train_loss,
        "train/accuracy": result.train_accuracy,
        "validation/loss": result.validation_loss,
        "validation/accuracy": result.validation_accuracy,
        "train/learning_rate": result.learning_rate,
        "train/tweets_per_second": result.tweets_per_second,
    }
    recorder.log_metrics(names, step=result.epoch)


def _place() -> tuple[int, int]:
    """Find this worker's rank and the number of workers."""
    if torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
