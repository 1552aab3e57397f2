"""Prepared words + settings -> the network that a training starts from."""

import numpy as np
import pyarrow.compute as pc
import torch
from torch import nn

from sentiflow.config.model_sections import ModelSettings
from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import UserError
from sentiflow.models import networks, vocabulary
from sentiflow.models.package import ModelPackage


def build(
    settings: TrainSettings, words: vocabulary.Vocabulary, *, num_classes: int = 2
) -> networks.Network:
    """Build the network with the pretrained word vectors; other words get random vectors.

    Raises:
        UserError: ``init_from`` names the package of another network.
    """
    torch.manual_seed(settings.seed)
    matrix = torch.from_numpy(words.vectors)
    network = networks.build(
        settings.model,
        vocabulary_size=len(words),
        embedding_dim=matrix.shape[1],
        num_classes=num_classes,
    )
    known = ~torch.isnan(matrix[:, :1])
    spread = float(matrix[known.squeeze(1)].std()) if known.any() else 1.0
    with torch.no_grad():
        random = torch.randn_like(matrix) * spread
        network.embedding.weight.copy_(torch.where(known, matrix, random))
        network.embedding.weight[vocabulary.PAD_ID] = 0
    if settings.init_from is not None:
        _load_weights(network, words, settings.model, settings.init_from)
    network.embedding.weight.requires_grad_(settings.model.vectors == "tuned")
    return network


def _load_weights(
    network: nn.Module, words: vocabulary.Vocabulary, model: ModelSettings, uri: str
) -> None:
    """Load the weights of ``init_from``; words that it does not know keep their vectors."""
    package = ModelPackage.load(uri, setting="train.init_from")
    theirs, ours = package.network.state_dict(), network.state_dict()
    matrix, vectors = theirs.pop("embedding.weight"), ours.pop("embedding.weight")
    shapes = [{n: tuple(t.shape) for n, t in weights.items()} for weights in (theirs, ours)]
    if matrix.shape[1] != vectors.shape[1]:
        raise UserError(
            f"train.init_from: {uri} has word vectors of {matrix.shape[1]} numbers",
            hint=f"those of the prepared data have {vectors.shape[1]}",
        )
    its = package.settings.model
    if shapes[0] != shapes[1] or (its.kind, its.pooling) != (model.kind, model.pooling):
        raise UserError(
            f"train.init_from: {uri} is of another network ({its.summary})",
            hint=f"train.model is {model.summary}; all but dropout and vectors must be the same",
        )
    found = pc.index_in(words.words, value_set=package.vocabulary.words)
    rows = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
    known = np.flatnonzero(rows >= 0)
    with torch.no_grad():
        network.load_state_dict(theirs, strict=False)
        network.embedding.weight[known] = matrix[rows[known]]
