"""What the models must be able to learn."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import sample, schema
from sentiflow.data.corpus import open_csv
from sentiflow.data.parts import read
from sentiflow.models import vocabulary
from sentiflow.models.tokenizer import tokenize
from sentiflow.storage import parquet
from sentiflow.training.initial_network import build
from sentiflow.training.objectives import ClassificationObjective
from sentiflow.training.trainer import Trainer
from sentiflow.training.virtual_shards import NUM_VIRTUAL_SHARDS, OwnRows, TrainInput, VirtualShards
from sentiflow.words import word_vectors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    path = tmp_path_factory.mktemp("accuracy") / "tweets.csv"
    path.write_bytes(b"".join(sample.generate(num_rows=8_000, seed=2)))
    form = FormatSettings()
    source = open_csv([str(path)], settings=form, rows_per_part=100_000, unpack_to=str(path.parent))
    table = read(source.parts[0])
    assert len(table) == 8_000
    is_test = np.random.default_rng(0).random(len(table)) < 0.2
    return table["text"].combine_chunks(), table["label"].to_numpy(), is_test


def test_word_order_is_worth_five_points_to_an_rnn_of_50(corpus, tmp_path):
    text, label, is_test = corpus
    counts = CountVectorizer().fit_transform(text.to_pylist())
    linear = LogisticRegression(max_iter=300).fit(counts[~is_test], label[~is_test])
    linear_accuracy = linear.score(counts[is_test], label[is_test])

    vectors = word_vectors.load("package:glove.6B.50d", max_words=10_000)
    words = vocabulary.from_words(vectors.words)
    matrix = np.vstack([np.full((1, 50), np.nan, np.float32), vectors.vectors])
    words = vocabulary.Vocabulary(words.words, words.counts, matrix)
    ids = words.encode(tokenize(text, name="tweet"), max_length=64).token_ids
    settings = TrainSettings.model_validate(
        {
            "model": {"cell": "rnn", "hidden_size": 50, "bidirectional": False, "pooling": "last"}
            | {"dropout": 0.0},
            "batching": {"global_batch_size": 64},
            "num_epochs": 6,
        }
    )
    lists = {False: ids.filter(pa.array(~is_test)), True: ids.filter(pa.array(is_test))}
    train, validation = (
        write_encoded(tmp_path / str(held_out), lists[held_out], label[is_test == held_out])
        for held_out in (False, True)
    )
    trainer = Trainer(
        settings=settings,
        objective=ClassificationObjective(build(settings, words)),
        train=TrainInput(
            train,
            own=range(NUM_VIRTUAL_SHARDS),
            counts=train.count_lengths(range(NUM_VIRTUAL_SHARDS), max_length=64),
            batch_size=64,
        ),
        validation=OwnRows(validation, own=range(NUM_VIRTUAL_SHARDS)),
        device=torch.device("cpu"),
    )
    while trainer.epoch < settings.num_epochs:
        last = trainer.train_epoch()
    assert last.validation_accuracy > linear_accuracy + 0.05
    assert last.validation_accuracy > 0.85


def write_encoded(folder, lists, label):
    """Write encoded rows as one file."""
    length = pc.list_value_length(lists)
    columns = [np.arange(len(lists)), label, lists, length]
    parquet.write(str(folder / "0.parquet"), pa.table(columns, schema=schema.ENCODED))
    return VirtualShards.plan({str(folder / "0.parquet"): len(lists)})
