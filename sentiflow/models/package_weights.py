"""Weights file of a package -> its network and its linear model, and back.

This module does not import torch.
"""

import textwrap
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from sentiflow.errors import UserError
from sentiflow.models import array_networks, earlier_layers, package_files
from sentiflow.models.array_networks import ArrayNetwork
from sentiflow.models.linear import PREFIX, LinearModel
from sentiflow.models.package_settings import PackageSettings

_MAX_PROBLEM = 200
"""Maximum length of a description of wrong weights in an error message, in characters."""


def build(
    path: str, content: bytes, settings: PackageSettings
) -> tuple[ArrayNetwork, LinearModel | None]:
    """Build the network that the settings describe, and the linear model, from their weights.

    The sizes in the settings may be wrong, so no memory is allocated by them.

    Args:
        path: The file of the weights, for error messages.
        content: Its content.
        settings: The settings of the package.

    Returns:
        The network; and the linear model, None if the package has none.

    Raises:
        UserError: The weights are damaged, or do not fit the settings.
    """
    of_linear = {}
    of_network = {}
    for name, tensor in sorted(_read(path, content).items()):
        if name.startswith(PREFIX):
            of_linear[name] = tensor
        else:
            of_network[name] = tensor
    for name, tensor in of_network.items():
        expected = np.int64 if name == earlier_layers.KEYS else np.float32
        if tensor.dtype != expected:
            raise _make_type_error(path)
    linear = None
    try:
        if settings.has_linear:
            linear = LinearModel.of(of_linear, num_classes=len(settings.classes))
        elif of_linear:
            raise ValueError("it has a linear model, but linear_weight is 0")
        network = build_network(settings, of_network)
    except ValueError as error:
        problem = textwrap.shorten(str(error), _MAX_PROBLEM, placeholder=" ...")
        raise UserError(
            f"{path} does not fit {package_files.SETTINGS}: {problem}",
            hint=package_files.COPY_AGAIN,
        ) from error
    return network, linear


def _read(path: str, content: bytes) -> dict[str, np.ndarray]:
    """Read all tensors by their names.

    Raises:
        UserError: The file is damaged, or has a type that numpy does not have.
    """
    try:
        return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is not a safetensors file", hint=package_files.COPY_AGAIN
        ) from error
    except (KeyError, TypeError, ValueError) as error:  # a type that numpy does not have
        raise _make_type_error(path) from error


def _make_type_error(path: str) -> UserError:
    """Make the error about weights of another type."""
    return UserError(f"{path} has tensors that are not float32", hint=package_files.COPY_AGAIN)


def build_network(settings: PackageSettings, arrays: Mapping[str, np.ndarray]) -> ArrayNetwork:
    """Build the network of a package from its weights.

    Raises:
        ValueError: The weights do not fit the settings.
    """
    return array_networks.build(
        settings.model,
        arrays,
        vocabulary_size=settings.vocabulary_size,
        embedding_dim=settings.embedding_dim,
        num_classes=len(settings.classes),
        earlier=settings.earlier_layers,
    )


def to_bytes(arrays: Mapping[str, np.ndarray], linear: LinearModel | None) -> bytes:
    """Write the weights of the network and of the linear model, if there is one."""
    tensors = dict(arrays)
    if linear is not None:
        tensors |= linear.tensors()
    return safetensors.numpy.save(tensors)


def count(arrays: Mapping[str, np.ndarray], linear: LinearModel | None) -> int:
    """Count the numbers that were learned."""
    num_parameters = sum(array.size for array in arrays.values())
    if linear is not None:
        num_parameters += linear.weights.size + linear.bias.size
    return num_parameters
