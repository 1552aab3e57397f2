"""``settings.json`` of a model package -> its settings, checked.

This module does not import torch.
"""

from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from sentiflow.config.class_names import check_names
from sentiflow.config.text_units import Cut, Unit
from sentiflow.config.train_sections import ModelSettings, UnsureSettings
from sentiflow.config.types import ADDED, Fraction, Settings
from sentiflow.data import json_faults, other_versions
from sentiflow.errors import UserError, shorten
from sentiflow.models import tokenizer
from sentiflow.models.earlier_formats import EarlierLayers, convert_settings

_LARGE = 1 << 31
"""Maximum of the sizes in the settings of a package."""


class UnsureThreshold(UnsureSettings):
    """The promise of a model about its errors, and the threshold that keeps the promise."""

    threshold: Fraction
    """A prediction is unsure if its confidence is at most this, or the text has no known word.
    1: all predictions are unsure."""


class PackageSettings(Settings):
    """The settings of a package, as ``settings.json`` has them."""

    model: ModelSettings
    """The ``train.model`` section."""
    vocabulary_size: int = Field(ge=1, le=_LARGE)
    """Number of word vectors, including padding and, if the vocabulary has it, the unknown word."""
    embedding_dim: int = Field(ge=1, le=_LARGE)
    """Number of features of a word vector."""
    tokenizer: str
    """Name of the tokenizer, one of ``TOKENIZERS``."""
    tokenizer_version: int
    """Version of the tokenizer that the model was trained with."""
    unit: Annotated[Unit, ADDED] = "words"
    """What the network reads, see :mod:`models.units`."""
    max_length: int = Field(ge=1, le=_LARGE)
    """Maximum number of units of a text; the network does not see the others."""
    cut: Annotated[Cut, ADDED] = "end"
    """Which units of a longer text are left out, see :func:`models.tokens.find_kept`."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    class_values: Annotated[tuple[float, ...] | None, ADDED] = None
    """The numbers of ordered classes, such as 1 to 5 stars, in the order of the logits. None: the
    classes have no order."""
    priors: tuple[Fraction, ...]
    """Share of each class in training: the prediction for texts without a known word."""
    left_out: tuple[str, ...] = ()
    """Classes of the data that the training left out, by ``train.classes`` or by
    ``kind: sentiment140``. Evaluations skip rows with these labels; rows with other unknown labels
    count as mistakes."""
    linear_weight: Fraction = 0.0
    """Share of the linear model in the logits; the network has the rest. 0: no linear model."""
    temperature: float = Field(default=1.0, ge=0.01, le=100)
    """Logits are divided by it (Guo et al. 2017); 1 leaves them as trained."""
    unsure: UnsureThreshold | None = None
    """None: no prediction is unsure."""
    earlier_layers: Annotated[EarlierLayers | None, ADDED] = None
    """Layers that only packages of earlier versions have."""

    @property
    def has_network(self) -> bool:
        """Whether the network has a share in the logits."""
        return self.linear_weight < 1

    @property
    def has_linear(self) -> bool:
        """Whether there is a linear model."""
        return self.linear_weight > 0

    def tokenizes_as(self, other: "PackageSettings") -> bool:
        """Whether two packages have the same tokenizer, so split every text into equal tokens."""
        mine = (self.tokenizer, self.tokenizer_version)
        return mine == (other.tokenizer, other.tokenizer_version)

    @model_validator(mode="before")
    @classmethod
    def _convert_earlier(cls, value: Any) -> Any:
        return convert_settings(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check_classes(self) -> "PackageSettings":
        check_names(self.classes)
        if len(self.priors) != len(self.classes):
            raise ValueError("priors: must have a number for each class")
        if self.class_values is not None and len(self.class_values) != len(self.classes):
            raise ValueError("class_values: must have a number for each class")
        return self


def read(path: str, content: bytes | str, *, made_by: str = "") -> PackageSettings:
    """Read the settings of a package from JSON.

    Args:
        path: The file of the settings, for error messages.
        content: The JSON.
        made_by: The version that made the package, if it is another one: the text of
            :func:`other_versions.compare`.

    Raises:
        UserError: The settings are damaged, or need another version of sentiflow.
    """
    try:
        settings = PackageSettings.model_validate_json(content)
    except ValidationError as error:
        raise UserError(
            f"{path} cannot be read: {json_faults.find_first(error)}",
            hint=_explain(made_by) or "it is damaged, or needs a newer sentiflow",
        ) from error
    if tokenizer.find_rule(settings.tokenizer, settings.tokenizer_version) is None:
        known = tokenizer.list_versions(settings.tokenizer)
        versions = ", ".join(str(version) for version in known) or "none"
        raise UserError(
            f"{path} needs tokenizer {shorten(ascii(settings.tokenizer), 40)} version "
            f"{settings.tokenizer_version}",
            hint=_explain(made_by) or f"{other_versions.THIS} has these versions: {versions}",
        )
    return settings


def _explain(made_by: str) -> str:
    """Say what to do with a package of another version; empty if this version made it."""
    if not made_by:
        return ""
    return f"it was {made_by}; use the version that made it, or train with another output_uri"
