"""Weights + vocabulary + tokenizer + settings -> one directory that can score text."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors
import safetensors.torch
import torch
from torch import nn

from sentiflow import batching, manifest, models, storage, vocabulary
from sentiflow.errors import UserError
from sentiflow.schema import POSITIVE
from sentiflow.tokenizer import TOKENIZERS, tokenize
from sentiflow.uris import join
from sentiflow.vocabulary import Vocabulary

WEIGHTS, VOCABULARY, SETTINGS = "weights.safetensors", "vocabulary.parquet", "settings.json"
FILES = (WEIGHTS, VOCABULARY, SETTINGS)


@dataclass(frozen=True)
class PackageSettings:
    """What a package must know beside its weights and words; all of it is in ``settings.json``."""

    model: dict[str, Any]
    """The ``train.model`` section."""
    embedding_dim: int
    tokenizer: str
    tokenizer_version: int
    max_length: int
    prior: float
    """Share of positive labels in training: the answer where no word is known."""
    labels: tuple[str, ...] = ("negative", "positive")


@dataclass(frozen=True)
class Scores:
    """The answers for N texts."""

    probability: np.ndarray
    """Of positive, float32."""
    num_tokens: np.ndarray
    """Words that the model knows, int32; 0: only the prior spoke."""

    @property
    def prediction(self) -> np.ndarray:
        """The more probable label, int8; positive at exactly one half."""
        return (self.probability >= 0.5).astype(np.int8)


@dataclass(frozen=True)
class ModelPackage:
    """A trained model with everything that turns text into its input.

    Example:
        >>> package = ModelPackage.load("runs/quickstart/trained/model")  # doctest: +SKIP
        >>> package.score(pa.array(["I love this"])).probability  # doctest: +SKIP
        array([0.97], dtype=float32)
    """

    network: nn.Module
    vocabulary: Vocabulary
    settings: PackageSettings

    def to(self, device: torch.device | str) -> "ModelPackage":
        """Move the network to a device, in evaluation mode."""
        return replace(self, network=self.network.to(device).eval())

    def score(self, text: pa.Array, *, batch_size: int = 512) -> Scores:
        """Answer each text; rows in give rows out, in the same order.

        Args:
            text: N strings, without nulls.
            batch_size: Rows in a padded batch; a matter of speed alone.
        """
        tokens = tokenize(text, name=self.settings.tokenizer)
        lists, num_tokens = self.vocabulary.encode(tokens, max_length=self.settings.max_length)
        rows = batching.EncodedRows.from_lists(lists)
        probability = np.full(len(rows), self.settings.prior, np.float32)
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            for chosen in batching.order_by_length(rows.lengths, batch_size=batch_size):
                batch = batching.collate(rows, chosen)
                logits = self.network(batch.token_ids.to(device), batch.lengths.to(device))
                positive = torch.softmax(logits.float(), dim=1)[:, POSITIVE]
                probability[chosen] = positive.cpu().numpy()
        return Scores(probability, num_tokens)

    def save(self, uri: str, *, lineage: dict[str, Any]) -> dict[str, Any]:
        """Publish the package as a directory; returns its manifest.

        Args:
            uri: The directory; an unfinished or older package of ours there is replaced.
            lineage: What the model was made from: inputs for the manifest.
        """
        settings = vars(self.settings) | {"vocabulary_size": len(self.vocabulary)}
        claim = manifest.Claim("model", uri, settings, lineage, owns=FILES)
        manifest.begin(claim, overwrite=True)
        weights = {name: tensor.cpu() for name, tensor in self.network.state_dict().items()}
        storage.write_bytes(join(uri, WEIGHTS), safetensors.torch.save(weights))
        replace(self.vocabulary, vectors=None).save(join(uri, VOCABULARY))
        storage.write_bytes(join(uri, SETTINGS), json.dumps(settings, indent=2).encode())
        files = [_describe(uri, name) for name in FILES]
        content = {"fingerprint": manifest.fingerprint([item["sha256"] for item in files])}
        return manifest.publish(
            replace(claim, inputs=lineage | {"content": content}),
            counts={"parameters": sum(tensor.numel() for tensor in weights.values())},
            files=files,
            seconds=0,
        )

    @classmethod
    def load(cls, uri: str, *, setting: str = "the model") -> "ModelPackage":
        """Read a package back, on the CPU, ready to score.

        Args:
            uri: The directory.
            setting: Named in an error as where ``uri`` came from.

        Raises:
            UserError: It is no finished package, or its files are not those that were saved, or
                need a newer sentiflow.
        """
        record = manifest.require(uri, stage="model", setting=setting)
        _check_files(uri, record)
        raw = json.loads(storage.read_bytes(join(uri, SETTINGS)))
        size = raw.pop("vocabulary_size")
        settings = PackageSettings(**raw)
        _check_tokenizer(uri, settings)
        network = models.build(
            settings.model, vocabulary_size=size, embedding_dim=settings.embedding_dim
        )
        weights = safetensors.torch.load(storage.read_bytes(join(uri, WEIGHTS)))
        network.load_state_dict(weights)
        words = vocabulary.load(join(uri, VOCABULARY))
        return cls(network.eval(), words, settings)


def _describe(uri: str, name: str) -> dict[str, Any]:
    path = join(uri, name)
    size = storage.file_info(path).size
    return {"path": name, "rows": None, "bytes": size, "sha256": storage.sha256(path)}


def _check_files(uri: str, record: dict[str, Any]) -> None:
    for item in record["files"]:
        path = join(uri, item["path"])
        if not storage.exists(path):
            raise UserError(
                f"{path} is missing", hint="the model package is damaged; copy it again"
            )
        if storage.sha256(path) != item["sha256"]:
            raise UserError(
                f"{path} is not the file that was saved (its checksum differs)",
                hint="the model package is damaged; copy it again",
            )


def _check_tokenizer(uri: str, settings: PackageSettings) -> None:
    version = TOKENIZERS[settings.tokenizer][0] if settings.tokenizer in TOKENIZERS else None
    if version != settings.tokenizer_version:
        raise UserError(
            f"{uri} needs tokenizer {settings.tokenizer} version {settings.tokenizer_version}",
            hint=f"this sentiflow has version {version}",
        )
