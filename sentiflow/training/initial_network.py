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


def join_words(
    prepared_vocabulary: vocabulary.Vocabulary, initial: ModelPackage
) -> vocabulary.Vocabulary:
    """Append the initial model's words that were not prepared; prepared words keep their ids."""
    assert prepared_vocabulary.vectors is not None, "prepared words have vectors, which may be NaN"
    initial_words = initial.vocabulary.words[initial.vocabulary.num_special :]
    is_prepared = pc.is_in(initial_words, value_set=prepared_vocabulary.words)
    further = initial_words.filter(pc.invert(is_prepared))
    no_vectors = np.full((len(further), prepared_vocabulary.vectors.shape[1]), np.nan, np.float32)
    return vocabulary.Vocabulary(
        words=pa.concat_arrays([prepared_vocabulary.words, further]),
        counts=pa.concat_arrays([prepared_vocabulary.counts, pa.nulls(len(further), pa.int64())]),
        vectors=np.concatenate([prepared_vocabulary.vectors, no_vectors]),
    )


def build(
    settings: TrainSettings,
    words: vocabulary.Vocabulary,
    *,
    classes: tuple[str, ...] = BINARY,
    initial: ModelPackage | None = None,
) -> networks.Network:
    """Build the network with the pretrained word vectors; other words get random vectors.

    Args:
        settings: The section ``train``.
        words: The vocabulary, with the words of ``initial``.
        classes: Names of the classes.
        initial: The model whose weights the network starts from.

    Raises:
        UserError: ``initial`` has word vectors of another size.
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
        if initial is not None:
            _load_weights(network, words, initial, classes=classes, settings=settings)
    network.embedding.weight.requires_grad_(settings.model.vectors == "tuned")
    return network


def _load_weights(
    network: networks.Network,
    words: vocabulary.Vocabulary,
    initial: ModelPackage,
    *,
    classes: tuple[str, ...],
    settings: TrainSettings,
) -> None:
    """Load the weights of the initial model in place.

    Words that it does not know keep their vectors. If it has other classes, the output layer is not
    loaded.

    Raises:
        UserError: The initial model has word vectors of another size.
    """
    assert settings.init_from is not None, "there is an initial model"
    dim = network.embedding.embedding_dim
    initial_dim = initial.settings.embedding_dim
    if initial_dim != dim:
        raise UserError(
            f"train.init_from: {settings.init_from} has word vectors of {initial_dim} numbers",
            hint=f"the vectors of the prepared data have {dim}",
        )
    left_out = ["embedding."]
    if initial.settings.classes != classes:
        left_out.append("output.")
    arrays = initial.arrays
    weights = {
        name: torch.tensor(array)
        for name, array in arrays.items()
        if not name.startswith(tuple(left_out))
    }
    result = network.load_state_dict(weights, strict=False)
    assert not result.unexpected_keys, "the networks differ only in dropout and in the output"
    is_left_out = [name.startswith(tuple(left_out)) for name in result.missing_keys]
    assert all(is_left_out), "the initial model has all other weights"
    found = pc.index_in(words.words, value_set=initial.vocabulary.words)
    places = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
    initial_ids = torch.from_numpy(places.astype(np.int64))
    shared = (initial_ids >= 0).nonzero().squeeze(1)
    initial_vectors = torch.tensor(arrays["embedding.weight"])
    network.embedding.weight[shared] = initial_vectors[initial_ids[shared]]
