"""Training settings + vocabulary -> the settings and the objective of pretraining."""

import numpy as np

from sentiflow.config.train_sections import TrainSettings
from sentiflow.models.networks import TweetRNN
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.training.objectives import LanguageModeling


def derive_settings(settings: TrainSettings) -> TrainSettings:
    """Derive the settings of pretraining."""
    return settings.model_copy(
        update={
            "num_epochs": settings.pretrain.num_epochs,
            "learning_rate": settings.pretrain.learning_rate,
            "schedule": "one_cycle",
            "frozen_epochs": 0,
        }
    )


def make_objective(
    network: TweetRNN, words: Vocabulary, settings: TrainSettings
) -> LanguageModeling:
    """Make the objective of pretraining.

    Negative words are drawn by their counts in the train split, also where unlabelled texts are
    read: so the validation losses of pretrainings with and without them can be compared.
    """
    return LanguageModeling(
        network,
        counts=_count_words(words),
        num_negatives=settings.pretrain.num_negatives,
        seed=settings.seed,
    )


def _count_words(words: Vocabulary) -> np.ndarray:
    """Return the count of each word; a count that is not known is estimated by Zipf's law."""
    counts = words.counts.to_numpy(zero_copy_only=False).astype(np.float64)
    by_rank = np.nanmax(counts, initial=1.0) / np.arange(1, len(counts) + 1)
    return np.where(np.isnan(counts), by_rank, counts)
