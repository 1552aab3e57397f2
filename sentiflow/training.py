"""Encoded Parquet -> metrics by epoch, a model package."""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed
from torch import nn

from sentiflow import manifest, models, train_workers, vocabulary
from sentiflow.batching import EncodedRows
from sentiflow.cluster import Resources
from sentiflow.errors import UserError
from sentiflow.manifest import Claim
from sentiflow.model_package import ModelPackage, PackageSettings
from sentiflow.progress import Progress, say
from sentiflow.sections import Config, TrainSettings
from sentiflow.tokenizer import TOKENIZERS
from sentiflow.trainer import Trainer
from sentiflow.uris import join
from sentiflow.vocabulary import Vocabulary

if TYPE_CHECKING:
    from sentiflow.tracking import Recorder

STAGE = "train"
RAY_RECORDS = "ray"
"""Where Ray Train keeps its own records while it runs."""
OWNS = ("model", "checkpoints", RAY_RECORDS)


@dataclass(frozen=True)
class Job:
    """Everything a training worker needs; it travels to other machines."""

    settings: TrainSettings
    prepared: dict[str, Any]
    """The manifest of the prepared data."""
    lineage: dict[str, Any]
    num_threads: int


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
    config: Config, recorder: "Recorder", *, resources: Resources, overwrite: bool
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
        num_threads=resources.threads_per_train_worker(num_workers),
    )
    say(STAGE, _announce(job, num_workers))
    total = _count_train_rows(job.prepared) * config.train.num_epochs
    with Progress(STAGE, total=total, unit="tweets") as progress:
        outcome = train_workers.train(
            train_worker,
            job,
            num_workers=num_workers,
            resources=resources,
            storage_path=join(target.uri, RAY_RECORDS),
            on_post=functools.partial(_take_post, progress=progress, recorder=recorder),
        )
    history, package = outcome["history"], outcome["package"]
    seconds = time.monotonic() - began
    rate = float(np.median([epoch["tweets_per_second"] for epoch in history]))
    recorder.log_metrics({"train/seconds": seconds, "train/tweets_per_second": rate})
    return manifest.publish(
        target,
        counts={
            "rows": _count_train_rows(job.prepared),
            "rows_without_token": outcome["rows_without_token"],
            "epochs": len(history),
            "parameters": package["counts"]["parameters"],
        },
        files=manifest.list_files(target.uri, "model"),
        seconds=seconds,
        history=history,
        model_fingerprint=package["fingerprint"],
        mlflow_run_id=recorder.run_id,
        num_workers=num_workers,
        device=outcome["device"],
        precision=outcome["precision"],
    )


def _announce(job: Job, num_workers: int) -> str:
    model, counts = job.settings.model, job.prepared["counts"]
    directions = "two directions" if model.bidirectional else "one direction"
    return (
        f"{model.cell}({model.hidden_size}), {directions}, {counts['vocabulary_size']:,} words, "
        f"on {_count_train_rows(job.prepared):,} tweets, "
        f"{num_workers} worker{'s' if num_workers > 1 else ''}"
    )


def _count_train_rows(prepared: dict[str, Any]) -> int:
    labels = prepared["counts"]["labels"]["train"]
    return int(labels["negative"] + labels["positive"])


def _take_post(posted: dict[str, Any], *, progress: Progress, recorder: "Recorder") -> None:
    """Show and log what rank 0 posts: rows done since the last time, or an epoch's figures."""
    if "epoch" in posted:
        _show_epoch(posted)
        _log_epoch(recorder, posted)
    else:
        progress.advance(posted["rows"], note=f"loss {posted['loss']:.3f}")


def _show_epoch(epoch: dict[str, Any]) -> None:
    accuracy = epoch["validation_accuracy"]
    say(
        STAGE,
        f"epoch {epoch['epoch']}: loss {epoch['train_loss']:.4f}, "
        f"validation accuracy {math.nan if accuracy is None else accuracy:.4f} "
        f"({epoch['seconds']:.1f} s, {epoch['tweets_per_second']:,.0f} tweets/s)",
    )


def train_worker(job: Job, post: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    """Train in one of the worker processes, which step in time with each other.

    Args:
        job: The same in every worker.
        post: Takes, from rank 0, the figures of each epoch, and every second the rows done.

    Returns:
        On rank 0 ``history``, the manifest of the ``package``, and what of the circumstances the
        result depends on; None on the others.
    """
    torch.set_num_threads(job.num_threads)
    torch.manual_seed(job.settings.seed)
    rank, world_size = _place()
    words = vocabulary.load(join(job.settings.prepared_uri, "vocabulary.parquet"))
    network = _build(job.settings, words)
    if rank:
        torch.manual_seed(hash((job.settings.seed, rank)))  # each rank its own dropout masks
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(
        settings=job.settings,
        network=network.to(device),
        train=_read_split(job, "train"),
        validation=_read_split(job, "validation"),
        rank=rank,
        world_size=world_size,
        device=device,
        on_progress=post if rank == 0 else lambda progress: None,
    )
    history = []
    for result in trainer.epochs():
        if rank == 0:
            history.append(asdict(result))
            post(history[-1])
    if rank:
        return None
    package = _package(job, network, words, trainer.train)
    return {
        "history": history,
        "package": package.save(join(job.settings.output_uri, "model"), lineage=job.lineage),
        "rows_without_token": int((trainer.train.lengths == 0).sum()),
        "device": device.type,
        "precision": "bf16" if trainer.uses_bf16 else "fp32",
    }


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


def _log_epoch(recorder: "Recorder", epoch: dict[str, Any]) -> None:
    metrics = {
        "train/loss": epoch["train_loss"],
        "train/accuracy": epoch["train_accuracy"],
        "validation/loss": epoch["validation_loss"],
        "validation/accuracy": epoch["validation_accuracy"],
        "train/learning_rate": epoch["learning_rate"],
        "train/tweets_per_second": epoch["tweets_per_second"],
    }
    recorder.log_metrics(metrics, step=epoch["epoch"])


def _place() -> tuple[int, int]:
    """Find this worker's rank and the number of workers."""
    if torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
