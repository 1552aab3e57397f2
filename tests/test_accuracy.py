"""What the models must be able to learn."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from sentiflow import sample, training, vocabulary, word_vectors
from sentiflow.batching import EncodedRows
from sentiflow.corpus import open_csv, read_part
from sentiflow.sections import FormatSettings, TrainSettings
from sentiflow.tokenizer import tokenize
from sentiflow.trainer import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    path = tmp_path_factory.mktemp("accuracy") / "tweets.csv"
    path.write_bytes(b"".join(sample.generate(num_rows=16_000, seed=2)))
    form = FormatSettings()
    source = open_csv([str(path)], form=form, rows_per_part=100_000, unpack_to=str(path.parent))
    table = read_part(source, 0).tweets
    assert len(table) == 16_000
    is_test = np.random.default_rng(0).random(len(table)) < 0.2
    return table["text"].combine_chunks(), table["label"].to_numpy(), is_test


def test_word_order_is_worth_five_points_to_an_rnn_of_50(corpus):
    text, label, is_test = corpus
    counts = CountVectorizer().fit_transform(text.to_pylist())
    linear = LogisticRegression(max_iter=300).fit(counts[~is_test], label[~is_test])
    linear_accuracy = linear.score(counts[is_test], label[is_test])

    vectors = word_vectors.load("package:glove.6B.50d", max_words=10_000)
    words = vocabulary.from_words(vectors.words)
    matrix = np.vstack([np.full((1, 50), np.nan, np.float32), vectors.vectors])
    words = vocabulary.Vocabulary(words.words, words.counts, matrix)
    ids, _ = words.encode(tokenize(text, name="tweet"), max_length=64)
    torch.manual_seed(0)
    settings = TrainSettings.model_validate(
        {
            "model": {"cell": "rnn", "hidden_size": 50, "bidirectional": False, "pooling": "last"}
            | {"dropout": 0.0},
            "batching": {"global_batch_size": 64},
            "num_epochs": 6,
        }
    )
    trainer = Trainer(
        settings=settings,
        network=training._build(settings, words),
        train=EncodedRows.from_lists(ids.filter(pa.array(~is_test)), label[~is_test]),
        validation=EncodedRows.from_lists(ids.filter(pa.array(is_test)), label[is_test]),
        rank=0,
        world_size=1,
        device=torch.device("cpu"),
    )
    *_, last = trainer.epochs()
    assert last.validation_accuracy > linear_accuracy + 0.05
    assert last.validation_accuracy > 0.85
