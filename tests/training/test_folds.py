"""Each labelled row is answered once, by a model that has seen neither it nor its words."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import schema
from sentiflow.data.answers import Answers
from sentiflow.data.arrays import hash_texts
from sentiflow.errors import UserError
from sentiflow.metrics.abstention import choose_threshold
from sentiflow.metrics.confidence import Calibration, calibrate, softmax
from sentiflow.models import vocabulary
from sentiflow.models.package import ModelPackage
from sentiflow.storage import parquet
from sentiflow.training import (
    excerpts,
    fold_answers,
    fold_data,
    fold_rows,
    folds,
    learned_classes,
    rates,
    task,
)
from sentiflow.training.linear_solver import STRENGTHS
from sentiflow.training.train_job import TrainJob
from sentiflow.words.word_vectors import WordVectors

CLASSES = ("bad", "dull", "good")
NUM_ROWS, NUM_FOLDS = 240, 4
TEXTS = [f"{CLASSES[row % 3]} day number{row // 2} {'x' * (row % 3)}" for row in range(NUM_ROWS)]
TEXTS[7::20] = ["Bad day"] * len(TEXTS[7::20])
TEXTS[8::20] = ["bad  DAY"] * len(TEXTS[8::20])


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Describe a training on rows of three splits, with unlabelled texts beside them."""
    root = tmp_path / "prepared"
    split = np.arange(NUM_ROWS) % 10
    rows = [range(NUM_ROWS), [None] * NUM_ROWS, TEXTS, [row % 3 for row in range(NUM_ROWS)]]
    table = pa.table(rows, schema=schema.TWEETS)
    tables = {
        f"tweets/split={name}/rows.parquet": table.filter(pa.array(chosen))
        for name, chosen in zip(schema.SPLITS, (split > 1, split == 1, split == 0), strict=True)
    }
    further = [[0, 1], ["good night", TEXTS[0].upper()], [[1], [1]], [1, 1]]
    tables["unlabelled/rows.parquet"] = pa.table(further, schema=schema.UNLABELLED)
    files = [
        item for path, rows in tables.items() for item in parquet.write_part(str(root), path, rows)
    ]
    words = pa.array(["bad", "dull", "good", "day"])
    vectors = WordVectors(words, np.eye(4, dtype=np.float32))
    monkeypatch.setattr(fold_data.word_vectors, "load", lambda *_, **__: vectors)
    settings = {
        "max_length": 30, "tokenizer": "tweet", "format": {"kind": "csv"},
        "split": {"kind": "hash", "validation_fraction": 0.1, "test_fraction": 0.1},
        "vocabulary": {"kind": "corpus", "min_count": 1, "vectors": "package:glove.6B.50d"},
    }  # fmt: skip
    prepared = {
        "files": files, "settings": settings, "inputs": {}, "classes": list(CLASSES),
        "counts": {"labels": {"train": dict.fromkeys(CLASSES, 64)}},
    }  # fmt: skip
    train = TrainSettings(
        prepared_uri=str(root), output_uri=str(tmp_path / "out"), folds=NUM_FOLDS, num_epochs=1,
        model={"kind": "bag_of_embeddings", "vectors": "tuned"}, learning_rate=0.05,
        batching={"global_batch_size": 16},
    )  # fmt: skip
    return TrainJob(train, "", "", "", prepared, lineage={}, num_threads=1)


def train(job, root, run):
    learned = learned_classes.choose(job.prepared, job.settings)
    return folds.train(
        job,
        learned,
        num_folds=fold_rows.count_trained(job.settings, job.prepared, CLASSES),
        root=str(root),
        folder="folds/ab",
        run=lambda own, _: run(own),
    )


def rows_of(own, table, split):
    found = parquet.read(f"{own.settings.prepared_uri}/{table}/split={split}/rows.parquet")
    return found["row_id"].to_pylist()


def test_each_row_is_answered_once_by_a_model_that_has_not_seen_it(job, tmp_path):
    seen = []
    jobs = []

    def run(own):
        jobs.append(own)
        seen.append({*rows_of(own, "encoded", "train"), *rows_of(own, "tweets", "validation")})
        return task.run(own, lambda event: None)

    results = train(job, tmp_path, run)
    profile = results.profile
    assert (profile.rows, sum(profile.predicted.values())) == (NUM_ROWS, NUM_ROWS)
    assert profile.tokens > profile.unknown_tokens > 0
    tables = [parquet.read(str(tmp_path / item["path"])) for item in results.files]
    assert all("sha256" in item for item in results.files)
    for number, (table, known) in enumerate(zip(tables, seen, strict=True), start=1):
        assert known == {*range(NUM_ROWS)} - {*table["row_id"].to_pylist()}
        assert set(table["fold"].to_pylist()) == {number}
    rows = pa.concat_tables(tables).sort_by("row_id")
    assert rows["row_id"].to_pylist() == list(range(NUM_ROWS))
    assert rows["label"].to_pylist() == [row % 3 for row in range(NUM_ROWS)]
    probabilities = np.stack([rows[f"probability_{name}"].to_numpy() for name in CLASSES], axis=1)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), rows["prediction"].to_numpy())
    normal = [" ".join(text.lower().split()) for text in TEXTS]
    of_text = {(text, fold) for text, fold in zip(normal, rows["fold"].to_pylist(), strict=True)}
    assert len(of_text) == len(set(normal)), "equal texts are in one fold"
    for own, known in zip(jobs, seen, strict=True):
        words = vocabulary.load(f"{own.settings.prepared_uri}/vocabulary.parquet").words
        learned = {word for row in rows_of(own, "encoded", "train") for word in normal[row].split()}
        assert set(words.to_pylist()[2:]) == learned, "words are those of the train rows"
        assert 0 < len(rows_of(own, "encoded", "validation")) < 0.3 * len(known)
        unlabelled = parquet.read(f"{own.settings.prepared_uri}/unlabelled/rows.parquet")
        assert unlabelled["text"].to_pylist() == ["good night"], "other texts only"


def test_the_share_of_the_linear_model_of_a_fold_is_decided_by_the_others(
    job, linear, tmp_path, monkeypatch
):
    monkeypatch.setattr(fold_answers, "_MIN_GAIN", -np.inf)
    results = train(linear, tmp_path, lambda own: task.run(own, lambda event: None))
    calibration = results.calibration
    assert 0 < calibration["linear_weight"] <= 1
    assert calibration["linear_strength"] in STRENGTHS
    assert calibration["num_rows"] == NUM_ROWS
    parts = [
        parquet.read(str(tmp_path / f"folds/ab/{fold + 1}/{folds.LOGITS}"))
        for fold in range(NUM_FOLDS)
    ]
    learned = learned_classes.choose(job.prepared, job.settings)
    effect = fold_answers.calibrate(pa.concat_tables(parts[1:]), learned)
    names = ("network", f"linear_{effect['linear_strength']:g}")
    network, of_linear = (np.array(parts[0][name].to_pylist()) for name in names)
    weight = effect["linear_weight"]
    fitted = Calibration.read(effect, CLASSES)
    expected = calibrate(softmax((1 - weight) * network + weight * of_linear), fitted)
    answers = parquet.read(str(tmp_path / results.files[0]["path"]))
    for place, name in enumerate(CLASSES):
        np.testing.assert_allclose(answers[f"probability_{name}"], expected[:, place], atol=1e-6)


def test_a_fold_learns_from_teachers_that_have_not_seen_its_rows(job, tmp_path):
    text = pa.array([*TEXTS, "good night"])
    texts = pa.concat_arrays([text, excerpts.make(text, 4)])
    keys = np.unique(hash_texts(texts))
    answers = np.random.default_rng(0).dirichlet([1, 1, 1], (NUM_FOLDS, len(keys)))
    uris = []
    for number, of_fold in enumerate(answers):
        uris.append(str(tmp_path / f"{number}.parquet"))
        parquet.write(uris[-1], Answers(keys, of_fold.astype(np.float32)).to_table())
    learned = learned_classes.choose(job.prepared, job.settings)
    taught = []

    def run(own, number):
        (uri,) = own.taught
        taught.append(parquet.read(uri))
        known = {*rows_of(own, "encoded", "train")}
        labelled = taught[-1].filter(pc.greater_equal(taught[-1]["label"], 0))
        assert {*labelled["row_id"].to_pylist()} == known
        assert labelled["label"].to_pylist() == [n % 3 for n in labelled["row_id"].to_pylist()]
        given = Answers(keys, answers[number]).find(hash_texts(taught[-1]["text"].combine_chunks()))
        assert given[0].all()
        np.testing.assert_allclose(taught[-1]["teacher"].to_pylist(), given[1], atol=1e-6)
        of_texts = excerpts.make(pa.array([TEXTS[n] for n in sorted(known)]), 4).to_pylist()
        further = taught[-1].filter(pc.less(taught[-1]["label"], 0))["text"].to_pylist()
        is_new = ~np.isin(hash_texts(pa.array(of_texts)), hash_texts(text))
        assert 0 < is_new.sum() < len(of_texts)
        of_texts = pa.array(of_texts).filter(pa.array(is_new)).to_pylist()
        assert sorted(further) == sorted(["good night", *of_texts])
        return task.run(own, lambda event: None)

    folds.train(
        job,
        learned,
        num_folds=NUM_FOLDS,
        root=str(tmp_path),
        folder="folds",
        run=run,
        taught=uris,
    )
    assert len(taught) == NUM_FOLDS


def test_rows_that_no_model_has_seen_decide_which_texts_are_unsure(job, tmp_path):
    settings = TrainSettings.model_validate(
        job.settings.model_dump() | {"unsure": {"max_error": 0.3}}
    )
    asked = replace(job, settings=settings)
    of_folds = []

    def run(own):
        of_folds.append(own.settings.unsure)
        return task.run(own, lambda event: None)

    results = train(asked, tmp_path, run)
    assert of_folds == [None] * NUM_FOLDS
    rows = pa.concat_tables(parquet.read(str(tmp_path / item["path"])) for item in results.files)
    sure = np.stack([rows[f"probability_{name}"] for name in CLASSES], axis=1).max(axis=1)
    right = rows["label"].to_numpy() == rows["prediction"].to_numpy()
    in_order = pa.array(TEXTS).take(rows["row_id"].combine_chunks())
    _, first = np.unique(hash_texts(in_order), return_index=True)
    assert len(first) < NUM_ROWS, "some texts are copies"
    expected = choose_threshold(right=right[first], confidence=sure[first], max_error=0.3)
    found = results.calibration["unsure"]
    assert (found["threshold"], found["num_rows"]) == (expected, len(first))
    assert 0 < found["answered_fraction"] == (sure[first] > expected).mean()


def test_given_test_rows_are_in_no_fold_and_measure_the_model(job, tmp_path):
    given = replace(job, prepared={**job.prepared, "fixed_splits": ["test"]})
    seen = []

    def run(own):
        seen.append({*rows_of(own, "tweets", "train"), *rows_of(own, "tweets", "validation")})
        return task.run(own, lambda event: None)

    results = train(given, tmp_path, run)
    test = {*range(0, NUM_ROWS, 10)}
    assert not any(test & rows for rows in seen)
    assert results.files == []
    assert results.calibration["num_rows"] == NUM_ROWS - len(test)


@pytest.fixture
def few_folds(job, monkeypatch):
    """Describe a training with given test rows, for which two folds have rows enough."""
    monkeypatch.setattr(rates, "_ENOUGH_ANSWERS", 90)  # of 192 rows in four folds
    return replace(job, prepared={**job.prepared, "fixed_splits": ["test"]})


def test_with_given_test_rows_the_first_folds_decide_the_calibration(few_folds, tmp_path):
    trained = []

    def run(own):
        trained.append(own.model_uri.split("/")[-2])
        return task.run(own, lambda event: None)

    results = train(few_folds, tmp_path / "whole", run)
    assert trained == ["1", "2"]
    parts = [
        parquet.read(str(tmp_path / f"whole/folds/ab/{fold}/{folds.LOGITS}")) for fold in trained
    ]
    num_rows = sum(len(part) for part in parts)
    assert results.calibration["num_rows"] == results.profile.rows == num_rows
    assert (results.costs.num_networks, results.costs.num_folds_trained) == (2, 2)
    assert results.files == []

    def stop(own):
        if "/2/" in own.model_uri:
            raise KeyboardInterrupt
        return task.run(own, lambda event: None)

    with pytest.raises(KeyboardInterrupt):
        train(few_folds, tmp_path / "killed", stop)
    trained.clear()
    assert train(few_folds, tmp_path / "killed", run) == results
    assert trained == ["2"]


def test_all_folds_are_trained_where_their_answers_are_measured_or_choose_unsure_texts(few_folds):
    def count(prepared, **changes):
        settings = few_folds.settings.model_copy(update=changes)
        return fold_rows.count_trained(settings, prepared, CLASSES)

    given = few_folds.prepared
    assert count(given) == 2
    assert count(given, unsure={"max_error": 0.1}) == NUM_FOLDS
    assert count({**given, "fixed_splits": []}) == NUM_FOLDS
    few = {**given, "counts": {"labels": {"train": dict.fromkeys(CLASSES, 40)}}}
    assert count(few) == 3, "a fold has 30 rows"


def test_a_killed_training_trains_only_the_folds_that_are_missing(job, tmp_path):
    def stop(own):
        if "/3/" in own.model_uri:
            raise KeyboardInterrupt
        return task.run(own, lambda event: None)

    whole = train(job, tmp_path / "whole", lambda own: task.run(own, lambda event: None))
    with pytest.raises(KeyboardInterrupt):
        train(job, tmp_path / "killed", stop)
    trained = []
    resumed = train(
        job,
        tmp_path / "killed",
        lambda own: trained.append(own.model_uri) or task.run(own, lambda event: None),
    )
    assert [uri.split("/")[-2] for uri in trained] == ["3", "4"]
    assert resumed == whole


@pytest.fixture
def linear(job):
    """Describe the training with a linear model beside the network."""
    return replace(job, settings=job.settings.model_copy(update={"linear": True}))


def test_after_a_network_that_hardly_helps_the_other_folds_train_only_linear_models(
    linear, tmp_path, monkeypatch
):
    monkeypatch.setattr(fold_answers, "_MIN_GAIN", np.inf)
    reports = []

    def run(own):
        reports.append(task.run(own, lambda event: None))
        return reports[-1]

    results = train(linear, tmp_path, run)
    assert [report.chosen_epoch for report in reports] == [1, 0, 0, 0]
    assert [len(report.history) for report in reports] == [1, 0, 0, 0]
    assert (results.costs.num_networks, results.costs.num_folds_trained) == (1, NUM_FOLDS)
    assert results.costs.linear_seconds > 0
    calibration = results.calibration
    assert calibration["linear_weight"] == 1
    assert calibration["num_rows"] == NUM_ROWS
    first = parquet.read(str(tmp_path / f"folds/ab/1/{folds.LOGITS}"))
    gain = fold_answers.measure_gain([first])
    assert gain.num_rows == len(first)
    assert calibration["network_gain"] == round(gain.value, 5)
    assert gain.value < gain.high
    for number, item in enumerate(results.files, start=1):
        parts = parquet.read(str(tmp_path / f"folds/ab/{number}/{folds.LOGITS}"))
        assert ("network" in parts.column_names) == (number == 1)
        answers = parquet.read(str(tmp_path / item["path"]))
        assert answers["row_id"].equals(parts["row_id"])
        right = np.mean(answers["label"].to_numpy() == answers["prediction"].to_numpy())
        assert right > 0.7, "some texts have two labels"

    def stop(own):
        if "/3/" in own.model_uri:
            raise KeyboardInterrupt
        return task.run(own, lambda event: None)

    with pytest.raises(KeyboardInterrupt):
        train(linear, tmp_path / "killed", stop)
    resumed = train(linear, tmp_path / "killed", run)
    assert [report.chosen_epoch for report in reports[4:]] == [0, 0]
    assert resumed == results


def test_without_gain_the_answers_are_those_of_the_network_with_share_0(
    linear, tmp_path, monkeypatch
):
    """If the mixture of all folds gives the network no share, skipping it changes no answer."""
    monkeypatch.setattr(fold_answers, "_MIN_GAIN", -np.inf)
    all_trained = train(linear, tmp_path / "all", lambda own: task.run(own, lambda event: None))
    assert all_trained.costs.num_networks == NUM_FOLDS
    monkeypatch.setattr(fold_answers, "_MIN_GAIN", np.inf)
    skipped = train(linear, tmp_path / "some", lambda own: task.run(own, lambda event: None))
    for number in range(1, NUM_FOLDS + 1):
        path = f"folds/ab/{number}/{folds.LOGITS}"
        with_network = parquet.read(str(tmp_path / "all" / path))
        without = parquet.read(str(tmp_path / "some" / path))
        for strength in STRENGTHS:
            name = f"linear_{strength:g}"
            assert with_network[name].equals(without[name])
    assert skipped.profile.rows == all_trained.profile.rows


def test_a_package_whose_network_was_not_trained_loads_and_answers(linear, tmp_path, monkeypatch):
    monkeypatch.setattr(fold_answers, "_MIN_GAIN", np.inf)
    train(linear, tmp_path, lambda own: task.run(own, lambda event: None))
    package = ModelPackage.load(str(tmp_path / "folds/ab/2/model"))
    scores = package.score(pa.array(["good day", "bad day"]))
    assert [CLASSES[code] for code in scores.prediction] == ["good", "bad"]


def test_a_class_without_a_row_in_the_other_folds_has_the_probability_0(job, tmp_path):
    rare = replace(job, settings=job.settings.model_copy(update={"num_epochs": 1}))
    texts = [f"good word{row}" if row % 2 else f"bad word{row}" for row in range(60)]
    labels = [2 if row % 2 else 0 for row in range(60)]
    labels[0] = 1  # the only row of its class
    rows = pa.table([range(60), [None] * 60, texts, labels], schema=schema.TWEETS)
    files = parquet.write_part(str(tmp_path), "tweets/split=train/rows.parquet", rows)
    prepared = {**job.prepared, "files": files}
    own = rare.settings.model_copy(update={"prepared_uri": str(tmp_path)})
    results = train(
        replace(rare, settings=own, prepared=prepared),
        tmp_path / "out",
        lambda own: task.run(own, lambda event: None),
    )
    tables = [parquet.read(str(tmp_path / "out" / item["path"])) for item in results.files]
    (alone,) = [table for table in tables if 0 in table["row_id"].to_pylist()]
    assert set(alone["probability_dull"].to_pylist()) == {0.0}
    assert 1 in alone["label"].to_pylist()


def test_folds_of_one_text_are_refused_with_the_reason(job, tmp_path):
    labels = [row % 3 for row in range(60)]
    rows = pa.table([range(60), [None] * 60, ["so good"] * 60, labels], schema=schema.TWEETS)
    files = parquet.write_part(str(tmp_path), "tweets/split=train/rows.parquet", rows)
    own = job.settings.model_copy(update={"prepared_uri": str(tmp_path)})
    same = replace(job, settings=own, prepared={**job.prepared, "files": files})
    with pytest.raises(
        UserError,
        match=r"as equal texts are in the same fold \(rows: 60, different texts: 1\): add",
    ):
        train(same, tmp_path / "out", lambda own: None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "time"}, "prepare.split.kind is time"),
        ({"kind": "user"}, "prepare.split.kind is user"),
    ],
)
def test_folds_of_other_rows_than_the_test_is_drawn_from_are_refused(job, change, reason):
    prepared = job.prepared
    learned = learned_classes.choose(job.prepared, job.settings)
    prepared = prepared | {"settings": prepared["settings"] | {"split": change}}
    settings = TrainSettings(prepared_uri="p", folds=5)
    advice = "set train.folds=0 and prepare.split.validation_fraction=0.1"
    with pytest.raises(UserError, match=f"train.folds: {reason}.*: {advice}"):
        learned_classes.check_unseen(settings, prepared, learned)
    learned_classes.check_unseen(settings.model_copy(update={"folds": 0}), prepared, learned)


def test_folds_have_no_other_teacher_than_an_encoder():
    assert TrainSettings(folds=5, distill={"teachers": ["encoder:use-multilingual"]}).folds == 5
    with pytest.raises(ValueError, match="may have learned from the rows of all folds"):
        TrainSettings(folds=5, distill={"teachers": ["encoder:a", "models:/one@champion"]})
