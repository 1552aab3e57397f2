"""The predictions for some texts, and a summary of them; torch is not imported."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sentiflow.models.drift import Profile


@dataclass(frozen=True)
class Scores:
    """The predictions for N texts."""

    probability: np.ndarray
    """Probability of positive, float32."""
    num_tokens: np.ndarray
    """Known words of each text, int32; a text with 0 gets the class prior."""
    lengths: np.ndarray
    """Tokens of each text, known or not, int64."""
    num_unknown: np.ndarray
    """Tokens out of the vocabulary, int32."""

    @property
    def prediction(self) -> np.ndarray:
        """The more probable label, int8; at exactly one half it is positive."""
        return (self.probability >= 0.5).astype(np.int8)

    @property
    def profile(self) -> Profile:
        """Summarize the texts as the model sees them."""
        return Profile.of(
            lengths=self.lengths,
            num_unknown=self.num_unknown,
            probability=self.probability,
            prediction=self.prediction,
        )

    def take(self, rows: np.ndarray) -> "Scores":
        """Choose the predictions of some rows."""
        return Scores(*(values[rows] for values in vars(self).values()))

    @classmethod
    def join(cls, scores: Sequence["Scores"]) -> "Scores":
        """Concatenate the predictions for several lists of texts."""
        columns = zip(*(vars(part).values() for part in scores), strict=True)
        return cls(*map(np.concatenate, columns))
