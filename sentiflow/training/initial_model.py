"""Model of ``train.init_from`` + settings of a training -> whether the training can start from it.

This module does not import torch.
"""

import json

from sentiflow.config.text_units import Unit
from sentiflow.config.train_sections import ModelSettings
from sentiflow.data.manifest_types import ModelInput
from sentiflow.errors import UserError, few
from sentiflow.models import package_files, package_settings

_MAY_DIFFER = {"dropout", "output_dropout", "vectors"}
"""Settings of a network in which a model may differ from the one that it starts from."""


def check(
    first: ModelInput, ours: ModelSettings, classes: tuple[str, ...], *, unit: Unit | None
) -> list[str]:
    """Check that a training can start from a model.

    Args:
        first: The model.
        ours: The network of the training.
        classes: The classes of the training.
        unit: What its network reads, see :mod:`models.units`. None: it is not known yet.

    Returns:
        A list with one line, about the output layer, if the classes differ and it is therefore
        reinitialized; otherwise an empty list.

    Raises:
        UserError: The networks differ in other settings than ``_MAY_DIFFER``, the model is an
            average, or it reads other units.
    """
    package_files.reject_average(first, setting="train.init_from")
    theirs = package_settings.read(first["uri"], json.dumps(first["settings"]))
    if theirs.earlier_layers:
        raise UserError(
            f"train.init_from: {first['uri']} is of an earlier version "
            f"({theirs.earlier_layers.summary})",
            hint="networks no longer have these layers; the model can be a teacher: "
            "train.distill.teachers",
        )
    if theirs.model.model_dump(exclude=_MAY_DIFFER) != ours.model_dump(exclude=_MAY_DIFFER):
        raise UserError(
            f"train.init_from: {first['uri']} is of another network ({theirs.model.summary})",
            hint=f"train.model is {ours.summary}; only dropout and vectors may differ",
        )
    if unit and theirs.unit != unit:
        raise UserError(
            f"train.init_from: {first['uri']} reads {theirs.unit}",
            hint=f"prepare with unit={theirs.unit}, or leave train.init_from out",
        )
    if theirs.classes != classes:
        named = ", ".join(few(theirs.classes))
        return [f"the first model has other classes ({named}): the output layer is reinitialized"]
    return []
