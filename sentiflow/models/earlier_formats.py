"""Settings of a package of an earlier version -> the settings of this version, of the same meaning.

Packages of the manifest formats 1 and 2, and the first ones of format 3, have settings that were
renamed or that no training has any more. This module does not import torch.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from sentiflow.config.class_names import BINARY
from sentiflow.config.types import Settings


class EarlierLayers(Settings):
    """Layers that networks had before version 0.1.0 was finished, see ``models.earlier_layers``."""

    num_layers: int = Field(default=1, ge=1, le=16)
    """Number of stacked recurrent layers of each direction."""
    ngrams: int = Field(default=0, ge=0, le=5)
    """Longest word n-gram of the linear model that was trained with the network. 0: none."""
    ngram_buckets: int = Field(default=1 << 20, ge=1, le=1 << 24)
    """Number of n-gram weights for each class; n-grams with the same hash share a weight."""

    @property
    def summary(self) -> str:
        """Describe the layers in a few words."""
        parts = []
        if self.num_layers > 1:
            parts.append(f"{self.num_layers} layers")
        if self.ngrams:
            parts.append(f"n-grams up to {self.ngrams}")
        return ", ".join(parts)


def convert_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the settings of a package; those of this version are returned unchanged.

    Other keys and values are not checked.

    Raises:
        ValueError: The labels or the share of positive labels are not as format 1 has them.
    """
    converted = _name_classes(settings)
    model = converted.get("model")
    if isinstance(model, dict):
        layers = {name: model[name] for name in EarlierLayers.model_fields if name in model}
        converted["model"] = {name: model[name] for name in model if name not in layers}
        if layers.get("ngrams", 0) == 0:
            layers.pop("ngrams", None)
            layers.pop("ngram_buckets", None)
        if layers.get("num_layers") == 1:
            del layers["num_layers"]
        if layers:
            converted["earlier_layers"] = layers
    return converted


def _name_classes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name the classes and their shares; format 1 has the share of positive labels only."""
    converted = dict(settings)
    if "prior" not in settings:
        return converted
    prior = converted.pop("prior")
    labels = converted.pop("labels", list(BINARY))
    if not isinstance(prior, int | float) or not 0 <= prior <= 1:
        raise ValueError("prior: must be a number from 0 to 1")
    if labels != list(BINARY):
        raise ValueError("labels: must be negative and positive")
    converted["classes"] = labels
    converted["priors"] = [1 - prior, prior]
    return converted
