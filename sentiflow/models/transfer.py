"""A model to start from + settings -> what of it fits; torch is not imported."""

import json

from sentiflow.config.model_sections import ModelSettings
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data.manifest_types import ModelInput
from sentiflow.errors import UserError
from sentiflow.models.package_files import read_settings, refuse_average

_MAY_DIFFER = {"dropout", "output_dropout", "vectors", "ngrams", "ngram_buckets"}


def check(first: ModelInput, settings: TrainSettings, classes: tuple[str, ...]) -> list[str]:
    """Check that a training can start from a model.

    Returns:
        A line about what does not fit and starts anew, if anything.

    Raises:
        UserError: The model differs in more than dropout, trained vectors and n-grams, or is an
            average of several.
    """
    refuse_average(first, setting="train.init_from")
    theirs = read_settings(first["uri"], json.dumps(first["settings"]))
    ours = settings.model
    if theirs.model.model_dump(exclude=_MAY_DIFFER) != ours.model_dump(exclude=_MAY_DIFFER):
        raise UserError(
            f"train.init_from: {first['uri']} is of another network ({theirs.model.summary})",
            hint=f"train.model is {ours.summary}; only dropout, vectors and n-grams may differ",
        )
    if theirs.classes != classes:
        anew = "output layer and n-grams start" if ours.ngrams else "output layer starts"
        named = ", ".join(theirs.classes)
        return [f"the first model has other classes ({named}): the {anew} anew"]
    if ours.ngrams and not has_same_ngrams(theirs.model, ours):
        return ["the first model has other n-grams: those of this model start anew"]
    return []


def has_same_ngrams(theirs: ModelSettings, ours: ModelSettings) -> bool:
    """Whether two models have the same table of n-grams."""
    shapes = [(model.ngrams, model.ngram_buckets) for model in (theirs, ours)]
    return shapes[0] == shapes[1] and bool(ours.ngrams)
