"""Several model packages -> the mean of their probabilities, with the methods of one package."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch

from sentiflow.errors import JobError
from sentiflow.models import average_files, networks, package_files
from sentiflow.models.package import ModelPackage
from sentiflow.models.scores import Scores
from sentiflow.models.vocabulary import Vocabulary


@dataclass(frozen=True)
class Average:
    """Packages of the same classes as one model; each counts the same.

    Packages with the same vocabulary and tokenizer share the encoding of the texts. The order of
    the classes, the lengths, the unknown words, and the word vectors that a report shows are those
    of the first package.

    Example:
        >>> average = load("runs/average/scored/model")  # doctest: +SKIP
        >>> average.score(pa.array(["I love this"])).probabilities  # doctest: +SKIP
        array([[0.02, 0.98]], dtype=float32)
    """

    groups: tuple[tuple[ModelPackage, ...], ...]
    """The packages; those of a group encode texts alike."""

    @classmethod
    def of(cls, packages: Sequence[ModelPackage]) -> "Average":
        """Average packages, of which all have the same classes, in any order."""
        groups: dict[tuple[Any, ...], list[ModelPackage]] = {}
        for package in packages:
            groups.setdefault(package.encoding, []).append(package)
        return cls(tuple(map(tuple, groups.values())))

    @property
    def settings(self) -> package_files.PackageSettings:
        """The settings of the first package."""
        return self.groups[0][0].settings

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the first package."""
        return self.groups[0][0].vocabulary

    @property
    def network(self) -> networks.Network:
        """The network of the first package."""
        return self.groups[0][0].network

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.groups[0][0].device

    def to(self, device: torch.device | str) -> "Average":
        """Move the networks to a device, in evaluation mode."""
        return Average(tuple(tuple(each.to(device) for each in group) for group in self.groups))

    def score(self, text: pa.Array, *, batch_size: int | None = None, bf16: bool = False) -> Scores:
        """Predict the class of each text by the mean of the probabilities.

        ``num_tokens`` is the largest of the packages'.

        Args:
            text: N strings, without nulls.
            batch_size: As :meth:`ModelPackage.score` takes it.
            bf16: As :meth:`ModelPackage.score` takes it.
        """
        found: list[Scores] = []
        for group in self.groups:
            texts = group[0].encode(text)
            found += [each.score_encoded(texts, batch_size=batch_size, bf16=bf16) for each in group]
        first = found[0]
        total = np.zeros(first.probabilities.shape)
        for scores in found:
            order = [scores.classes.index(name) for name in first.classes]
            total += scores.probabilities[:, order]
        return replace(
            first,
            probabilities=(total / len(found)).astype(np.float32),
            num_tokens=np.max([scores.num_tokens for scores in found], axis=0),
        )


Model: TypeAlias = ModelPackage | Average
"""What scores texts."""


def score_finite(
    model: Model, text: pa.Array, *, row_ids: Sequence[int] | np.ndarray = (), **how: Any
) -> Scores:
    """Score texts, and make sure that all probabilities are numbers.

    Args:
        model: The model.
        text: N strings, without nulls.
        row_ids: N numbers, for messages.
        how: As :meth:`ModelPackage.score` takes it.

    Raises:
        JobError: A probability is not a number; the message names the first rows.
    """
    scores = model.score(text, **how)
    if not scores.is_finite.all():
        rows = np.flatnonzero(~scores.is_finite)
        named = ", ".join(f"row {row_ids[row]:,}" for row in rows[:3] if len(row_ids))
        raise JobError(
            f"the model gives no finite probability for {text[rows[0]].as_py()[:60]!r}"
            f"{named and f' ({named})'}; such texts: {len(rows):,}"
        )
    return scores


def load(uri: str, *, setting: str = "the model") -> Model:
    """Read a package, or an average of several, on the CPU, ready to score.

    Args:
        uri: The directory.
        setting: The setting that names ``uri``, for error messages.

    Raises:
        UserError: As :meth:`ModelPackage.load`.
    """
    places = average_files.list_packages(uri, setting=setting)
    packages = [ModelPackage.load(place, setting=setting) for place in places]
    return packages[0] if places == [uri] else Average.of(packages)
