"""Trained network + validation rows -> model package, calibrated, with a profile of the rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.model_sections import ModelSettings
from sentiflow.data.manifest_types import Input, Manifest
from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, POSITIVE
from sentiflow.metrics import confidence
from sentiflow.models.networks import Network
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_files import PackageSettings
from sentiflow.models.scores import Scores
from sentiflow.models.tokenizer import TOKENIZERS
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.storage import filesystem
from sentiflow.training.results import EpochResult

_SAMPLE_ROWS, _SAMPLE_FILES = 20_000, 64
"""Size of the validation sample for calibration and for the profile that drift is measured from."""


def save(
    uri: str,
    *,
    network: Network,
    words: Vocabulary,
    model: ModelSettings,
    epoch: EpochResult,
    prepared: Manifest,
    validation: Sequence[str],
    lineage: dict[str, Input],
) -> Manifest:
    """Publish the package of a trained network; return its manifest.

    Args:
        uri: The directory.
        network: The network with the weights of the chosen epoch.
        words: Its vocabulary.
        model: Its settings.
        epoch: The chosen epoch.
        prepared: Manifest of the prepared data.
        validation: Files of the validation tweets.
        lineage: Inputs of the model.
    """
    labels, classes = prepared["counts"]["labels"]["train"], LABEL_NAMES[:2]
    total = sum(labels[name] for name in classes)
    tokenizer = prepared["settings"]["tokenizer"]
    settings = PackageSettings(
        model=model,
        vocabulary_size=len(words),
        embedding_dim=network.embedding.embedding_dim,
        tokenizer=tokenizer,
        tokenizer_version=TOKENIZERS[tokenizer][0],
        max_length=prepared["settings"]["max_length"],
        priors=tuple(labels[name] / total for name in classes),
    )
    package = ModelPackage(network.eval(), words, settings)
    known = {
        name: value
        for name, value in epoch.to_metrics().items()
        if name.startswith("validation/") and value is not None
    }
    if not validation:
        return package.save(uri, lineage=lineage, metrics=known)
    label, scores = _score_sample(package, validation)
    has_token = scores.num_tokens > 0  # other rows get the class prior, which has no temperature
    before = scores.probability
    assert before is not None
    temperature = confidence.fit_temperature(label=label[has_token], probability=before[has_token])
    package = replace(package, settings=settings.model_copy(update={"temperature": temperature}))
    after = np.where(has_token, confidence.rescale(before, temperature=temperature), before)
    after = after.astype(np.float32)
    scores = replace(scores, probabilities=np.stack([1 - after, after], axis=1))
    return package.save(
        uri,
        lineage=lineage,
        metrics=known,
        reference=scores.profile,
        calibration=_describe(label, before, after, temperature),
    )


def _score_sample(package: ModelPackage, files: Sequence[str]) -> tuple[np.ndarray, Scores]:
    """Score rows spread over all files; return their labels too, -1 where there is none."""
    chosen = files[:: -(-len(files) // _SAMPLE_FILES)]
    quota = -(-_SAMPLE_ROWS // len(chosen))
    labels, scores = [], []
    for uri in chosen:
        table = filesystem.read_parquet(uri, columns=["text", "label"]).combine_chunks()
        rows = pa.array(np.arange(0, len(table), -(-len(table) // quota)))
        labels.append(pc.fill_null(table["label"], -1).take(rows).to_numpy())
        scores.append(package.score(table["text"].combine_chunks().take(rows)))
    return np.concatenate(labels), Scores.join(scores)


def _describe(
    label: np.ndarray, before: np.ndarray, after: np.ndarray, temperature: float
) -> dict[str, Any] | None:
    """Describe the effect of the temperature, and choose the margin of neutral predictions."""
    binary, labelled = np.isin(label, (NEGATIVE, POSITIVE)), label >= 0
    if not binary.any():
        return None
    found = confidence.describe(
        temperature=temperature, label=label[binary], before=before[binary], after=after[binary]
    )
    margin = confidence.choose_margin(label=label[labelled], probability=after[labelled])
    return {**found, "neutral_margin": margin}
