"""The files of a package are read and checked without torch."""
# ruff: noqa: F811 -- fixtures are imported

import numpy as np
import pytest
import torch
from saved_package import flip_a_byte, forge, package, saved, weights_with  # noqa: F401

from sentiflow.errors import UserError
from sentiflow.models import package_files


def test_the_vectors_are_the_embedding_without_padding_and_unknown(package, saved):
    words, vectors = package_files.read_vectors(saved)
    assert words.to_pylist() == ["good", "bad", "morning", "day"]
    trained = package.network.embedding.weight.detach().numpy()
    np.testing.assert_array_equal(vectors, trained[2:])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"embedding__weight": None}, "weights.safetensors holds no word vectors"),
        ({"embedding__weight": torch.zeros(6, 4)}, "holds no vectors of 6 words"),
        ({"embedding__weight": torch.zeros(6, 5).half()}, "holds no vectors of 6 words"),
    ],
)
def test_weights_without_the_vectors_of_the_words_are_refused(package, saved, changes, problem):
    forge(saved, weights=weights_with(package, **changes))
    with pytest.raises(UserError, match=problem):
        package_files.read_vectors(saved)


def test_weights_that_are_no_safetensors_file_are_refused(saved):
    forge(saved, weights=b"\x80\x04.")
    with pytest.raises(UserError, match="holds no word vectors: the model package is damaged"):
        package_files.read_vectors(saved)
