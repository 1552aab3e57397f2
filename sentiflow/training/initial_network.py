"""Prepared words + settings -> the network that a training starts from, and its vocabulary."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sentiflow.config.class_names import BINARY
from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import UserError
from sentiflow.models import networks, vocabulary
from sentiflow.models.package import ModelPackage


def join_words(words: vocabulary.Vocabulary, first: ModelPackage) -> vocabulary.Vocabulary:
    """Append the first model's words that were not prepared; the prepared words keep their ids."""
    assert words.vectors is not None, "prepared words have vectors, which may be NaN"
    of_first = first.vocabulary.words[first.vocabulary.num_special :]
    is_prepared = pc.is_in(of_first, value_set=words.words)
    further = of_first.filter(pc.invert(is_prepared))
    unknown = np.full((len(further), words.vectors.shape[1]), np.nan, np.float32)
    return vocabulary.Vocabulary(
        words=pa.concat_arrays([words.words, further]),
        counts=pa.concat_arrays([words.counts, pa.nulls(len(further), pa.int64())]),
        vectors=np.concatenate([words.vectors, unknown]),
    )


def build(
    settings: TrainSettings,
    words: vocabulary.Vocabulary,
    *,
    classes: tuple[str, ...] = BINARY,
    first: ModelPackage | None = None,
) -> networks.Network:
    """Build the network with the pretrained word vectors; other words get random vectors.

    Args:
        settings: The section ``train``.
        words: The vocabulary, with the words of ``first``.
        classes: Names of the classes.
        first: The model whose weights the network starts from.

    Raises:
        UserError: ``first`` has word vectors of another size.
    """
    torch.manual_seed(settings.seed)
    matrix = torch.from_numpy(words.vectors)
    network = networks.build(
        settings.model,
        vocabulary_size=len(words),
        embedding_dim=matrix.shape[1],
        num_classes=len(classes),
    )
    has_vector = ~torch.isnan(matrix[:, :1])
    spread = 1.0
    if has_vector.any():
        spread = float(matrix[has_vector.squeeze(1)].std())
    with torch.no_grad():
        random = torch.randn_like(matrix) * spread
        network.embedding.weight.copy_(torch.where(has_vector, matrix, random))
        network.embedding.weight[vocabulary.PAD_ID] = 0
        if first is not None:
            _load_weights(network, words, first, classes=classes, settings=settings)
    network.embedding.weight.requires_grad_(settings.model.vectors == "tuned")
    return network


def _load_weights(
    network: networks.Network,
    words: vocabulary.Vocabulary,
    first: ModelPackage,
    *,
    classes: tuple[str, ...],
    settings: TrainSettings,
) -> None:
    """Load the weights of the first model in place; words that it does not know keep their vectors.

    If it has other classes, the output layer is not loaded.

    Raises:
        UserError: The first model has word vectors of another size.
    """
    assert settings.init_from is not None, "there is a first model"
    dim = network.embedding.embedding_dim
    first_dim = first.network.embedding.embedding_dim
    if first_dim != dim:
        raise UserError(
            f"train.init_from: {settings.init_from} has word vectors of {first_dim} numbers",
            hint=f"the vectors of the prepared data have {dim}",
        )
    left_out = ["embedding."]
    if first.settings.classes != classes:
        left_out.append("output.")
    weights = {
        name: tensor
        for name, tensor in first.network.state_dict().items()
        if not name.startswith(tuple(left_out))
    }
    network.load_state_dict(weights, strict=False)
    found = pc.index_in(words.words, value_set=first.vocabulary.words)
    places = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
    first_ids = torch.from_numpy(places.astype(np.int64))
    shared = (first_ids >= 0).nonzero().squeeze(1)
    network.embedding.weight[shared] = first.network.embedding.weight[first_ids[shared]]
