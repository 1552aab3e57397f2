"""Trained network + what it was trained on -> its model package, with figures and a reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from torch import nn

from sentiflow import storage
from sentiflow.drift import Profile
from sentiflow.model_package import ModelPackage, PackageSettings
from sentiflow.sections import ModelSettings
from sentiflow.tokenizer import TOKENIZERS
from sentiflow.vocabulary import Vocabulary

_PROFILE_ROWS, _PROFILE_FILES = 20_000, 64
"""As many validation rows, of as many files, say what texts look like to the model."""


def save(
    uri: str,
    *,
    network: nn.Module,
    words: Vocabulary,
    model: ModelSettings,
    epoch: dict[str, Any],
    prepared: dict[str, Any],
    validation: Sequence[str],
    lineage: dict[str, Any],
) -> dict[str, Any]:
    """Publish the package of a trained network; returns its manifest.

    Args:
        uri: The directory.
        network: With the weights of the chosen epoch.
        words: That it knows.
        model: Its settings.
        epoch: The chosen one, a :class:`trainer.EpochResult`.
        prepared: Manifest of the prepared data.
        validation: Files of the validation tweets.
        lineage: What the model was made from.
    """
    labels = prepared["counts"]["labels"]["train"]
    tokenizer = prepared["settings"]["tokenizer"]
    settings = PackageSettings(
        model=model,
        vocabulary_size=len(words),
        embedding_dim=network.embedding.embedding_dim,
        tokenizer=tokenizer,
        tokenizer_version=TOKENIZERS[tokenizer][0],
        max_length=prepared["settings"]["max_length"],
        prior=labels["positive"] / (labels["positive"] + labels["negative"]),
    )
    package = ModelPackage(network.eval(), words, settings)
    return package.save(
        uri, lineage=lineage, metrics=_metrics(epoch), reference=_profile(package, validation)
    )


def _metrics(epoch: dict[str, Any]) -> dict[str, float]:
    """Name what an epoch came to on the validation rows."""
    names = {f"validation/{name}": epoch[f"validation_{name}"] for name in ("accuracy", "loss")}
    return {name: value for name, value in names.items() if value is not None}


def _profile(package: ModelPackage, files: Sequence[str]) -> Profile | None:
    """Take the profile of rows from all over the files; None if there are none."""
    chosen = files[:: -(-len(files) // _PROFILE_FILES) or 1]
    quota = -(-_PROFILE_ROWS // max(1, len(chosen)))
    profiles = []
    for uri in chosen:
        text = storage.read_parquet(uri, columns=["text"])["text"].combine_chunks()
        rows = np.arange(0, len(text), -(-len(text) // quota))
        profiles.append(package.score(text.take(pa.array(rows))).profile)
    return sum(profiles, Profile()) if profiles else None
