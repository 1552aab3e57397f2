"""The words that decide: a giveaway stands first, and a page shows them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import new_package

from sentiflow.errors import UserError
from sentiflow.evaluation import deciding_words, evaluated_model, mistakes
from sentiflow.evaluation.deciding_words import SCHEMA
from sentiflow.models import word_parts
from sentiflow.models.linear import LinearModel
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.tokenizer import tokenize
from sentiflow.tracking import packages

CLASSES = ("negative", "positive")


def package_of_words(weights, *, linear_weight=1.0):
    """Make a package whose linear model has a weight of positive for each word."""
    ngrams = Ngrams.of(tokenize(pa.array([" ".join(weights)]), name="tweet"))
    hashes = ngrams.of_words[ngrams.word_offsets[:-1]]
    order = np.argsort(hashes)
    positive = np.array(list(weights.values()), np.float32)[order]
    linear = LinearModel(
        hashes=hashes[order],
        weights=np.column_stack([-positive, positive]),
        squares=np.ones(len(order), np.float32),
        bias=np.zeros(2, np.float32),
    )
    package = new_package()
    settings = package.settings.model_copy(update={"linear_weight": linear_weight})
    return replace(package, linear=linear, settings=settings)


def by_label(table):
    """Return the words of each class, in their order."""
    found = {}
    for row in table.to_pylist():
        found.setdefault(row["label"], []).append(row["word"])
    return found


def test_a_word_that_is_strong_in_many_texts_comes_first():
    package = package_of_words({"footer": 4.0, "fine": 0.4, "rare": 5.0, "awful": -2.0, "no": -1.0})
    text = pa.array(["day footer"] * 10 + ["day fine"] * 20 + ["rare"] * 2 + ["awful no", "no day"])
    labels = pa.array(["positive"] * 32 + ["negative"] * 2)
    table = deciding_words.measure_classes(package, text, labels).table
    assert table.schema == SCHEMA
    assert by_label(table) == {"negative": ["no"], "positive": ["footer", "rare", "fine"]}
    first = table.to_pylist()[1]
    assert (first["num_texts"], first["fraction"]) == (10, pytest.approx(10 / 32))
    assert first["mean_part"] == pytest.approx(4.0)
    assert first["mean_part"] == pytest.approx(first["mean_linear"] + first["mean_network"])


def test_of_two_equally_strong_words_the_one_of_a_single_class_comes_first():
    package = package_of_words({"footer": 1.0, "shared": 1.0, "awful": -9.0})
    text = pa.array(["shared"] * 9 + ["footer"] * 8 + ["awful shared"] * 8)
    labels = pa.array(["positive"] * 17 + ["negative"] * 8)
    table = deciding_words.measure_classes(package, text, labels).table
    assert by_label(table)["positive"] == ["footer", "shared"]


def test_a_word_that_a_text_repeats_counts_once_with_all_its_parts():
    package = package_of_words({"fine": 1.0, "day": 1.0})
    text = pa.array(["fine fine day", "fine day day"])
    table = deciding_words.measure_classes(package, text, pa.array(["positive"] * 2)).table
    norm = np.sqrt(3)
    for row in table.to_pylist():
        assert row["num_texts"] == 2
        assert row["mean_part"] == pytest.approx(1.5 / norm)


def test_the_network_is_asked_about_as_many_texts_as_it_can_read(monkeypatch):
    package = package_of_words({"good": 1.0, "bad": 1.0, "day": 1.0}, linear_weight=0.5)
    text = pa.array(["good day", "bad day"] * 10)
    labels = pa.array(["positive"] * 20)
    exact = deciding_words.measure_classes(package, text, labels)
    assert (exact.num_texts, exact.num_asked) == (20, 20)
    exact = exact.table.to_pandas()
    assert exact["mean_network"].abs().min() > 0
    monkeypatch.setattr(deciding_words, "_MAX_IDS", 40)  # of 80
    near = deciding_words.measure_classes(package, text, labels)
    assert (near.num_texts, near.num_asked) == (20, 10)
    near = near.table.to_pandas()
    assert exact["mean_linear"].tolist() == pytest.approx(near["mean_linear"].tolist())
    assert near["num_texts"].tolist() == exact["num_texts"].tolist()
    monkeypatch.setattr(deciding_words, "_MAX_IDS", 1)
    first = deciding_words.measure_classes(package, text, labels).table
    rows = {row["word"]: row for row in first.to_pylist()}
    assert rows["bad"]["mean_network"] is None, "the only text does not have it"
    assert rows["bad"]["mean_part"] == rows["bad"]["mean_linear"]
    assert rows["good"]["mean_network"] is not None


def test_without_a_linear_model_all_figures_are_of_the_texts_that_the_network_reads(monkeypatch):
    package = new_package()
    text = pa.array(["good day", "bad day"] * 10)
    labels = pa.array(["positive", "negative"] * 10)
    whole = deciding_words.measure_classes(package, text, labels)
    assert (whole.num_texts, whole.num_asked) == (20, 20)
    monkeypatch.setattr(deciding_words, "_MAX_IDS_ALONE", 40)  # of 80
    found = deciding_words.measure_classes(package, text, labels)
    assert (found.num_texts, found.num_asked) == (10, 10)
    assert len(found.table)
    for row in found.table.to_pylist():
        assert row["num_texts"] <= 10
        assert row["fraction"] <= 1
        assert row["mean_part"] == row["mean_network"] != 0


def test_batches_of_texts_have_the_words_of_all(monkeypatch):
    package = package_of_words({"footer": 4.0, "fine": 0.4, "awful": -2.0}, linear_weight=0.5)
    text = pa.array(["day footer", "day fine", "footer fine fine", "awful", "awful day"] * 5)
    labels = pa.array((["positive"] * 3 + ["negative"] * 2) * 5)
    whole = deciding_words.measure_classes(package, text, labels).table.to_pandas()
    monkeypatch.setattr(deciding_words, "TEXTS_AT_A_TIME", 7)
    batches = deciding_words.measure_classes(package, text, labels).table.to_pandas()
    pd.testing.assert_frame_equal(whole, batches)
    without_network = package_of_words({"footer": 4.0})
    found = deciding_words.measure_classes(without_network, text, labels)
    assert found.num_asked == 0
    assert found.table["mean_network"].to_pylist() == [0.0]


def test_a_corpus_without_texts_has_no_words():
    nothing = pa.array([], pa.string())
    for package in (new_package(), package_of_words({"fine": 1.0}, linear_weight=0.5)):
        found = deciding_words.measure_classes(package, nothing, nothing)
        assert (len(found.table), found.num_texts, found.num_asked) == (0, 0, 0)


@pytest.mark.parametrize(
    ("unit", "text", "num_ids"),
    [
        ("words", "good bad " * 150, 20 * 20),  # 300 words, 20 of them read
        ("words", "good bad morning", 3 * 3),
        ("characters", "good bad", 2 * len("good bad")),
        ("characters", "good bad " * 150, 20 * 20),  # the network reads about 5 words
    ],
)
def test_a_text_counts_the_ids_that_the_network_reads(unit, text, num_ids, monkeypatch):
    linear = package_of_words({"good": 1.0, "bad": 1.0}).linear
    package = new_package(words=("good", "bad", *"gobad"))
    update = {"unit": unit, "max_length": 20, "linear_weight": 0.5}
    settings = package.settings.model_copy(update=update)
    package = replace(package, linear=linear, settings=settings)
    asked = []
    measure = word_parts.measure

    def keep(package, text, codes):
        asked.append(len(text))
        return measure(package, text, codes)

    monkeypatch.setattr(word_parts, "measure", keep)
    monkeypatch.setattr(deciding_words, "_MAX_IDS", 5 * num_ids)
    deciding_words.measure_classes(package, pa.array([text] * 9), pa.array(["positive"] * 9))
    assert asked == [5]


def test_a_model_that_is_replaced_while_it_is_loaded_is_not_taken(tmp_path, monkeypatch):
    uri = str(tmp_path / "model")
    record = new_package(seed=0).save(uri, lineage={})
    scored = {"inputs": {"model": {"uri": uri, "fingerprint": record["fingerprint"]}}}
    loaded = evaluated_model.load(scored, None)
    assert loaded.settings == new_package().settings
    load = packages.load

    def load_and_replace(*args, **options):
        package = load(*args, **options)
        new_package(seed=1).save(uri, lineage={})
        return package

    monkeypatch.setattr(packages, "load", load_and_replace)
    with pytest.raises(UserError, match="holds another model now"):
        evaluated_model.load(scored, None)


def test_rows_are_chosen_equally_of_each_predicted_class(monkeypatch):
    monkeypatch.setattr(deciding_words, "MAX_TEXTS", 20)
    num_rows = 100
    rows = pa.table(
        {
            "row_id": np.arange(num_rows)[::-1],
            "prediction": np.where(np.arange(num_rows) < 15, 1, 0).astype(np.int8),
            "probability_negative": np.zeros(num_rows, np.float32),
            "probability_positive": np.zeros(num_rows, np.float32),
        }
    )
    chosen = deciding_words.choose_rows(rows)
    assert np.all(np.diff(chosen.row_ids) > 0)
    names = chosen.labels.to_pylist()
    assert (names.count("negative"), names.count("positive")) == (10, 10)
    assert [name == "positive" for name in names] == (chosen.row_ids >= 85).tolist()
    assert len(deciding_words.choose_rows(rows.slice(0, 0)).row_ids) == 0


def test_a_model_that_is_gone_is_the_reason():
    def load():
        raise UserError("runs/x holds another model now")

    nothing = mistakes.COLUMNS.empty_table()
    found = deciding_words.find(load, pa.array(["good"]), pa.array(["positive"]), nothing, CLASSES)
    assert found.not_asked == "runs/x holds another model now"
    assert not len(found.of_classes.table)


def test_mistakes_are_explained_by_kind_and_row_id():
    package = package_of_words({"fine": 1.0, "awful": -1.0})
    rows = [("fine day", 1), ("awful day", 0), ("fine", 1)]
    table = pa.table(
        {
            "kind": ["confident", "confident", "label"],
            "row_id": [7, 5, 7],
            "text": [text for text, _ in rows],
            "prediction": pa.array([c for _, c in rows], pa.int8()),
        }
    )
    text = pa.array(["fine", "fine"])
    labels = pa.array(["positive", "positive"])
    found = deciding_words.find(lambda: package, text, labels, table, CLASSES)
    assert {key: (why.text, why.label) for key, why in found.of_mistakes.items()} == {
        ("confident", 7): ("fine day", "positive"),
        ("confident", 5): ("awful day", "negative"),
        ("label", 7): ("fine", "positive"),
    }
    assert found.of_classes.num_texts == 2
    assert found.num_left_out == 0


def test_of_mistakes_the_longest_are_left_out(monkeypatch):
    texts = ["good " * 15, "good day", "bad " * 5, "bad"]
    table = pa.table(
        {
            "kind": ["confident"] * 4,
            "row_id": [0, 1, 2, 3],
            "text": texts,
            "prediction": pa.array([0, 1, 0, 1], pa.int8()),
        }
    )
    text = pa.array(["good", "good"])
    labels = pa.array(["positive", "positive"])
    monkeypatch.setattr(deciding_words, "_MAX_IDS_OF_MISTAKES", 1 + 4 + 25)
    found = deciding_words.find(new_package, text, labels, table, CLASSES)
    assert [row_id for _, row_id in sorted(found.of_mistakes)] == [1, 2, 3]
    assert found.num_left_out == 1
    assert found.of_mistakes["confident", 2].label == "negative"
