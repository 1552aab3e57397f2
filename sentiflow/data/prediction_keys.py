"""The keys of a manifest of predictions that its readers need, with their types."""

from typing import Any, Required

from typing_extensions import TypedDict

from sentiflow.data.manifest_types import ClassNames, Count


class _SettingsOfModel(TypedDict, total=False):
    """Settings of a package that readers of its predictions need."""

    classes: Required[ClassNames]
    members: list[dict[str, Any]]
    model: dict[str, Any]
    tokenizer: str
    unsure: dict[str, Any] | None
    vocabulary_size: Count


class _ModelOfPredictions(TypedDict):
    """The model that has made predictions."""

    settings: _SettingsOfModel


class _InputsOfPredictions(TypedDict):
    """Inputs that predictions always have."""

    corpus: dict[str, Any]
    model: _ModelOfPredictions


class _SettingsOfPredictions(TypedDict, total=False):
    """Settings of a scoring that readers of its predictions need."""

    format: dict[str, Any] | None
    keep_columns: Required[list[str]]
    text_column: Required[str]


class Predictions(TypedDict):
    """Keys that a manifest of predictions has, in addition to the keys of every manifest.

    :class:`Manifest` cannot require them, as it is one type for the manifests of all stages.
    """

    classes: ClassNames
    settings: _SettingsOfPredictions
    inputs: _InputsOfPredictions
