"""As many workers train as the estimate says are worth their start and their messages."""

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.cluster.resources import Resources
from sentiflow.config.train_sections import TrainSettings
from sentiflow.models.vocabulary import Vocabulary
from sentiflow.storage import parquet
from sentiflow.training import worker_count
from sentiflow.training.learned_classes import LearnedClasses

WORDS = 15_000
MANY, FEW = 1_280_000, 95_000
GRU = {"hidden_size": 64, "pooling": "mean_max"}
RNN = {"cell": "rnn", "hidden_size": 50, "bidirectional": False, "pooling": "last"}
FROZEN = RNN | {"vectors": "frozen"}
NODES = Resources(2, 0, 2, 1, is_one_machine=False)


@pytest.fixture(scope="module")
def prepared_uri(tmp_path_factory):
    """Write a vocabulary with vectors of 50 numbers."""
    folder = tmp_path_factory.mktemp("prepared")
    words = Vocabulary(
        pa.array(["<pad>", "good"]), pa.array([None, 7]), np.full((2, 50), np.nan, np.float32)
    )
    parquet.write(str(folder / "vocabulary.parquet"), words.to_table())
    return str(folder)


@pytest.fixture
def choose(prepared_uri):
    """Choose the workers for some settings, on tweets of 15 words."""

    def call(model, batch_size=128, *, place=NODES, num_rows=MANY, **train):
        batching = train.pop("batching", {}) | {"global_batch_size": batch_size}
        settings = TrainSettings.model_validate(
            {"prepared_uri": prepared_uri, "model": model, "num_epochs": 3, "batching": batching}
            | train
        )
        prepared = {
            "counts": {"vocabulary_size": WORDS, "labels": {"train": {"a": num_rows, "b": 0}}},
            "vocabulary": {"tokens": {"train": {"tokens": 15 * num_rows}}},
        }
        learned = LearnedClasses(
            ("a", "b"), np.array([num_rows, 0]), np.arange(2, dtype=np.int8), None
        )
        return worker_count.choose(settings, prepared, learned, place)

    return call


@pytest.mark.parametrize(
    ("model", "batch_size", "expected"),
    [(GRU, 128, 1), (GRU, 512, 2), (GRU, 8192, 2), (RNN, 512, 1), (FROZEN, 8192, 2)],
)
def test_the_choice_is_the_one_that_was_measured(choose, model, batch_size, expected):
    assert choose(model, batch_size)[0] == expected


GPUS = Resources(16, 4, 1, 16)
WHY = "1 of 2 workers: more would gain too little with batches of 128 rows"


@pytest.mark.parametrize(
    ("batch_size", "options", "expected"),
    [
        (2048, {}, (2, "")),
        (128, {}, (1, WHY)),
        (128, {"num_workers": 2}, (2, "")),
        (2048, {"num_workers": 2}, (2, "")),
        (2048, {"num_workers": 1}, (1, "")),
        (128, {"min_workers": 2}, (2, "")),
        (128, {"min_workers": 5}, (2, "")),
        (2048, {"min_workers": 2}, (2, "")),
        (128, {"num_rows": 0}, (1, "")),
        (128, {"num_rows": 0, "num_workers": 2}, (1, "")),
    ],
)
def test_settings_are_taken_and_the_line_says_why_fewer_workers_train(
    choose, batch_size, options, expected
):
    assert choose(GRU, batch_size, **options) == expected


def test_short_trainings_and_gpus_with_small_batches_have_one_worker(choose):
    assert choose(GRU, 512, num_rows=FEW)[0] == 1, "it ends before they pay"
    assert choose(GRU, 256, place=GPUS)[0] == 1
    assert choose({"hidden_size": 128}, 8192, place=GPUS)[0] == 4
