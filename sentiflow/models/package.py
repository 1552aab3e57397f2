"""Weights + vocabulary + tokenizer + settings -> one directory that can score text.

A package holds weights, words and settings as safetensors, Parquet and JSON. Loading it executes
and unpickles nothing, and a package that does not match its manifest is refused.
"""

import concurrent.futures
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors
import safetensors.torch
import torch

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Input, Manifest, RefitRecord
from sentiflow.errors import JobError, UserError
from sentiflow.models import average_files, batching, networks, package_files
from sentiflow.models.cpu import count_cores, one_thread
from sentiflow.models.drift import Profile
from sentiflow.models.linear import PREFIX, LinearModel
from sentiflow.models.scores import Scores
from sentiflow.models.tokenizer import Tokens, tokenize
from sentiflow.models.vocabulary import Encoded, Vocabulary
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import join

PIECE = 1 << 15
"""Texts scored at a time by one thread."""
_MAX_THREADS = 8
_THREADS_ON_GPU = 2
"""While one waits for the GPU, the other one tokenizes."""
_MAX_PROBLEM = 200
"""Characters of PyTorch's message about weights that do not fit."""


@dataclass(frozen=True)
class ModelPackage:
    """A trained model with the tokenizer and vocabulary that it needs to score text.

    Example:
        >>> package = ModelPackage.load("runs/quickstart/trained/model")  # doctest: +SKIP
        >>> package.score(pa.array(["I love this"])).probabilities  # doctest: +SKIP
        array([[0.03, 0.97]], dtype=float32)
    """

    network: networks.Network
    vocabulary: Vocabulary
    settings: package_files.PackageSettings
    linear: LinearModel | None = None
    """The linear model beside the network; its share in the logits is part of its weights."""
    others: "tuple[ModelPackage, ...]" = ()
    """Further packages of the same classes, in any order: the probabilities are the mean of all.
    The order of the classes and the word vectors of a report are those of this package."""

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> "ModelPackage":
        """Move the network to a device, in evaluation mode."""
        others = tuple(each.to(device) for each in self.others)
        return replace(self, network=self.network.to(device).eval(), others=others)

    def score(
        self,
        text: pa.Array,
        *,
        row_ids: Sequence[int] | np.ndarray = (),
        bf16: bool = False,
    ) -> Scores:
        """Predict the class of each text; the result has the order of the texts.

        Of several packages, ``num_tokens`` is the largest, and other counts are those of the first.

        Args:
            text: N strings, without nulls.
            row_ids: N numbers, for messages.
            bf16: Multiply in bfloat16: faster on a GPU, a little less exact. Recurrent layers on a
                GPU do not, see :func:`models.recurrence.encode_on_gpu`.

        Raises:
            JobError: A probability is not a number; the message names the first rows.
        """
        encoded, tokens = self._encode(text)
        classes, probabilities, num_known = self.settings.classes, [], []
        for package in (self, *self.others):
            texts, words = (encoded, tokens) if package._encodes_as(self) else package._encode(text)
            rows = batching.EncodedRows.from_lists(texts.token_ids)
            by_class, known = package._predict(rows, words, bf16=bf16)
            order = [package.settings.classes.index(name) for name in classes]
            probabilities.append(by_class[:, order])
            num_known.append(np.maximum(texts.num_known, known))
        mean = np.stack(probabilities).mean(axis=0, dtype=np.float64).astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(mean).all(axis=1))
        if len(wrong):
            named = ", ".join(f"row {row_ids[row]:,}" for row in wrong[:3] if len(row_ids))
            raise JobError(
                f"the model gives no finite probability for {text[wrong[0]].as_py()[:60]!r}"
                f"{named and f' ({named})'}; such texts: {len(wrong):,}"
            )
        num_tokens, lengths = np.max(num_known, axis=0), np.diff(tokens.offsets)
        unsure = None if self.others else self.settings.unsure
        return Scores(
            mean,
            classes,
            num_tokens,
            lengths,
            encoded.num_unknown,
            threshold=unsure.threshold if unsure else None,
        )

    def score_pieces(self, pieces: Iterator[pa.Array]) -> Scores:
        """Score texts in pieces of ``PIECE`` texts, on all cores or on the GPU."""
        is_on_cpu = self.device.type == "cpu"
        num_threads = min(count_cores(), _MAX_THREADS) if is_on_cpu else _THREADS_ON_GPU
        first, second = next(pieces, pa.array([], pa.string())), next(pieces, None)
        with one_thread():
            if second is None:  # threads would take longer than a text
                return self.score(first)
            with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
                return Scores.join([*pool.map(self.score, chain([first, second], pieces))])

    def _encode(self, text: pa.Array) -> tuple[Encoded, Tokens]:
        """Return the ids of N texts, and their tokens: of each whole text, known or not."""
        text = pc.replace_substring(text, "\0", "\ufffd")  # as ``tweets.check`` does
        tokens = tokenize(text, name=self.settings.tokenizer)
        return self.vocabulary.encode(tokens, max_length=self.settings.max_length), tokens

    def _encodes_as(self, other: "ModelPackage") -> bool:
        """Whether two packages give a text the same ids."""
        mine, theirs = (
            (each.settings.tokenizer, each.settings.max_length) for each in (self, other)
        )
        return mine == theirs and self.vocabulary.words.equals(other.vocabulary.words)

    def _predict(
        self,
        rows: batching.EncodedRows,
        tokens: Tokens,
        *,
        bf16: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute the probability of each class for N texts, ``(N, C)`` float32.

        Texts without a known word get the class priors, unless the linear model knows n-grams of
        them.

        Returns:
            The probabilities; and N bool, whether the text is known.
        """
        weight, priors = self.settings.linear_weight, torch.tensor(self.settings.priors)
        logits = (
            self.network_logits(rows, bf16=bf16)
            if weight < 1
            else torch.zeros(len(rows), len(priors))
        )
        known = rows.lengths > 0
        if self.linear is not None:
            of_linear, has_ngram = self.linear.answer(tokens)
            logits, known = (1 - weight) * logits + torch.from_numpy(of_linear), known | has_ngram
        by_class = torch.softmax(logits / self.settings.temperature, dim=1)
        return torch.where(torch.from_numpy(known)[:, None], by_class, priors).numpy(), known

    def component_logits(
        self, text: pa.Array, models: Mapping[float, LinearModel]
    ) -> list[np.ndarray]:
        """Compute the logits ``(N, C)`` of N texts by the network, and by linear models."""
        encoded, tokens = self._encode(text)
        of_network = self.network_logits(batching.EncodedRows.from_lists(encoded.token_ids))
        return [of_network.numpy(), *(model.logits(tokens) for model in models.values())]

    def network_logits(self, rows: batching.EncodedRows, *, bf16: bool = False) -> torch.Tensor:
        """Compute the network's logits for encoded texts, ``(N, C)`` float32.

        Those of a text without a word are the logarithms of the class priors.

        A GPU computes while the host makes the next batches, and is waited for once.

        Args:
            rows: N texts.
            bf16: As :meth:`score` takes it.
        """
        result = torch.tensor(self.settings.priors).log().repeat(len(rows), 1)
        device = self.device
        batches = batching.order_by_length(rows.lengths, batch_size=self.network.scoring_batch_size)
        logits = []
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16),
        ):
            predict = self.network.inference_function(rows.token_ids)
            for chosen in batches:
                batch = batching.collate(rows, chosen).to(device)
                logits.append(predict(batch.token_ids, batch.lengths).float())
            if batches:
                result[np.concatenate(batches)] = torch.cat(logits).cpu()
        return result

    def save(
        self,
        uri: str,
        *,
        lineage: dict[str, Input],
        metrics: Mapping[str, float] | None = None,
        reference: Profile | None = None,
        calibration: Mapping[str, Any] | None = None,
        refit: RefitRecord | None = None,
    ) -> Manifest:
        """Save the package as a directory; return its manifest.

        Args:
            uri: The directory, in the output of a stage, which nobody reads yet.
            lineage: Inputs of the model, for the manifest.
            metrics: Metrics of the chosen epoch, such as ``validation/accuracy``.
            reference: Profile of validation rows, for the measurement of drift.
            calibration: Temperature, bias and their effect, and what decided which are unsure.
            refit: The run that the training repeated, if it was a refit.
        """
        settings = self.settings.model_dump()
        tensors = {name: tensor.cpu() for name, tensor in self.network.state_dict().items()}
        num_parameters = sum(tensor.numel() for tensor in tensors.values())
        if self.linear is not None:
            tensors |= self.linear.tensors()
            num_parameters += self.linear.weights.numel() + self.linear.bias.numel()
        contents = {
            package_files.WEIGHTS: safetensors.torch.save(tensors),
            package_files.VOCABULARY: parquet.to_bytes(
                replace(self.vocabulary, vectors=None).to_table()
            ),
            package_files.SETTINGS: json.dumps(settings, indent=2).encode(),
        }
        filesystem.delete(join(uri, manifest.MANIFEST))
        files = [filesystem.write_file(uri, name, content) for name, content in contents.items()]
        content: Input = {"fingerprint": package_files.fingerprint(files)}
        more: dict[str, Any] = {"refit": refit} if refit else {}
        record = manifest.describe(
            "model",
            settings,
            lineage | {"content": content},
            counts={"parameters": num_parameters},
            files=files,
            metrics=dict(metrics or {}),
            reference=asdict(reference) if reference else None,
            calibration=dict(calibration) if calibration else None,
            **more,
        )
        filesystem.write_bytes(join(uri, manifest.MANIFEST), manifest.to_json(record))
        return record

    @classmethod
    def load(cls, uri: str, *, setting: str = "the model") -> "ModelPackage":
        """Read a package, or an average of several, on the CPU, ready to score.

        Args:
            uri: The directory.
            setting: The setting that names ``uri``, for error messages.

        Raises:
            UserError: The directory is no finished package, its files were changed or do not fit
                each other, or it needs a newer sentiflow.
        """
        packages = []
        for place in average_files.list_packages(uri, setting=setting):
            settings, words, weights = package_files.read(place, setting=setting)
            network, linear = _build(join(place, package_files.WEIGHTS), weights, settings)
            packages.append(cls(network.eval(), words, settings, linear))
        return replace(packages[0], others=tuple(packages[1:]))


def _build(
    path: str, content: bytes, settings: package_files.PackageSettings
) -> tuple[networks.Network, LinearModel | None]:
    """Build the network that the settings describe, with the weights, and the linear model.

    Nothing of the size that the settings claim is allocated.

    Raises:
        UserError: The weights are damaged, or do not fit the settings.
    """
    try:
        weights = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is not a safetensors file", hint=package_files.COPY_AGAIN
        ) from error
    of_linear = {name: weights.pop(name) for name in sorted(weights) if name.startswith(PREFIX)}
    if any(tensor.dtype != torch.float32 for tensor in weights.values()):
        raise UserError(f"{path} has tensors that are not float32", hint=package_files.COPY_AGAIN)
    try:
        linear = (
            LinearModel.of(of_linear, num_classes=len(settings.classes))
            if of_linear or settings.linear_weight
            else None
        )
        with torch.device("meta"):
            network = networks.build(
                settings.model,
                vocabulary_size=settings.vocabulary_size,
                embedding_dim=settings.embedding_dim,
                num_classes=len(settings.classes),
            )
        network.load_state_dict(weights, assign=True)
    except (RuntimeError, TypeError, ValueError) as error:  # TypeError: a size above 64 bits
        problem = textwrap.shorten(str(error), _MAX_PROBLEM, placeholder=" ...")
        raise UserError(
            f"{path} does not fit {package_files.SETTINGS}: {problem}",
            hint=package_files.COPY_AGAIN,
        ) from error
    return network, linear
