"""Candidate and champion are compared on test rows that neither has learned, once, and counted."""

# ruff: noqa: F401, F811 - fixtures of another file

import re

import numpy as np
import pyarrow as pa
import pytest
from candidates import (
    NEUTRAL,
    TEXTS,
    aliases,
    bad,
    config,
    good,
    log,
    prepared,
    register,
    store,
)
from sklearn.metrics import f1_score
from stages import publish

from sentiflow.config import settings
from sentiflow.config.class_names import SENTIMENT140
from sentiflow.data import manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import UserError
from sentiflow.evaluation import contenders, kept_comparisons, promotion
from sentiflow.models.package import ModelPackage
from sentiflow.storage import parquet
from sentiflow.tracking import mlflow_store, model_registry
from sentiflow.tracking.model_registry import CANDIDATE


def test_whole_authors_of_the_test_rows_are_compared_by_author(
    config, register, good, bad, prepared, tmp_path
):
    texts = [f"{text} again {number}" for text in TEXTS for number in range(40)]
    label = ModelPackage.load(good).score(pa.array(texts)).prediction
    author = [f"user{row // 8}" for row in range(len(texts))]
    uri = str(tmp_path / "by_author")
    split = {"split": {"kind": "user"}, "keep_columns": ["user"]}
    columns = {
        "row_id": np.arange(len(texts)),
        "text": texts,
        "label": pa.array(label, pa.int8()),
        "user": author,
    }
    files = parquet.write_part(uri, "tweets/split=test/part-0.parquet", pa.table(columns))
    publish(OutputSpec("prepare", uri, split, {}), files=files, classes=list(SENTIMENT140))
    register(bad)
    asked = settings.load(config, [f"train.prepared_uri={uri}"])
    promotion.promote(asked)
    register(good)
    found = promotion.promote(asked)
    assert found.promoted
    assert found.comparison.num_authors == 40
    assert "test by author, 40 authors: p < 0.001" in str(found)


def test_texts_of_either_training_are_left_out_by_their_text(
    config, register, good, bad, prepared, tmp_path
):
    """Also in another preparation, which numbers its rows anew."""

    def train(name, package, texts):
        csv = {"fingerprint": "c5f0", "files": []}
        uri = str(tmp_path / name / "prepared")
        data = OutputSpec("prepare", uri, {"name": name}, {"csv": csv})
        table = pa.table({"text": texts, "label": pa.array([0] * len(texts), pa.int8())})
        files = parquet.write_part(data.uri, "tweets/split=train/part-0.parquet", table)
        record = publish(data, files=files, classes=list(SENTIMENT140))
        inputs = {"prepared": manifest.reference(data.uri, record)}
        training = OutputSpec("train", str(tmp_path / name / "trained"), {}, inputs)
        named = {"uri": training.uri, "fingerprint": training.fingerprint}
        made = str(tmp_path / name / "model")
        saved = ModelPackage.load(package).save(made, lineage={"training": named})
        publish(training, model_fingerprint=saved["fingerprint"])
        return made

    register(train("bad", bad, ["elsewhere", "GOOD  morning"]))
    first = promotion.promote(settings.load(config)).comparison
    assert (first.num_rows, first.num_seen, first.unknown) == (7, 1, ())
    register(train("good", good, ["bad day"]))
    found = promotion.promote(settings.load(config))
    test = found.comparison
    assert (test.num_rows, test.num_seen, test.unknown) == (6, 2, ())
    assert test.only_candidate_right + test.only_champion_right == 6
    seen = "2 test rows are left out: their texts were used to train or choose a model"
    assert seen in promotion.to_text(found)
    register(train("all", bad, TEXTS))
    with pytest.raises(UserError, match=r"all 8 labelled texts in the test split of .* were seen"):
        promotion.promote(settings.load(config))


def test_versions_that_one_test_split_has_judged_are_counted_and_said(
    config, register, good, bad, tmp_path
):
    register(good)
    assert promotion.promote(settings.load(config)).comparison.num_judged == 1
    register(bad)
    for _ in range(2):
        found = promotion.promote(settings.load(config))
        assert found.comparison.num_judged == 2
        assert "versions have been compared" not in promotion.to_text(found)
    again = str(tmp_path / "again")
    ModelPackage.load(bad).save(again, lineage={"training": {"fingerprint": "another"}})
    register(again)
    found = promotion.promote(settings.load(config))
    assert found.comparison.num_judged == 3
    assert "3 versions have been compared on these test rows" in promotion.to_text(found)
    assert re.search(r"looks \d+\.\d points better than it is", promotion.to_text(found))


def test_a_comparison_whose_file_is_gone_is_made_again_and_counted_once(
    config, register, good, bad, monkeypatch
):
    monkeypatch.setattr(kept_comparisons, "_read", lambda *_: None)
    register(good)
    promotion.promote(settings.load(config))
    register(bad)
    for _ in range(2):
        assert promotion.promote(settings.load(config)).comparison.num_compared == 1
    name = settings.load(config).name
    uri = mlflow_store.default_uri(settings.load(config).tracking.uri)
    data = manifest.read(settings.load(config).train.prepared_uri)["fingerprint"]
    tags = model_registry.find_tagged(name, kept_comparisons.TEST_DATA, data, tracking_uri=uri)
    assert kept_comparisons.find_compared(tags, data) == {2}
    assert tags[1][kept_comparisons._COMPARISON].count(" ") == 2
    assert tags[2][kept_comparisons._COMPARISON].endswith(" accuracy -0.7500, p = 0.07")
    assert len(tags[2][kept_comparisons._COMPARISON]) < 100


def test_a_comparison_in_the_registry_is_not_made_twice(
    config, register, good, bad, make_package, monkeypatch
):
    register(good)
    promotion.promote(settings.load(config))
    register(bad)
    first = promotion.promote(settings.load(config))
    with monkeypatch.context() as patch:
        patch.setattr(contenders, "load", None)  # it would fail
        assert promotion.promote(settings.load(config)) == first
    register(make_package(seed=3))
    other = promotion.promote(settings.load(config))  # another candidate is compared
    assert other.comparison.candidate_accuracy != first.comparison.candidate_accuracy
    promotion.promote(settings.load(config), force=True)
    again = promotion.promote(settings.load(config), version=2)  # and with another champion
    assert (again.champion, again.comparison.champion_accuracy) == (
        3,
        other.comparison.candidate_accuracy,
    )


def test_what_was_reached_is_tagged_on_both_versions(config, register, store, prepared, good, bad):
    register(good)
    promotion.promote(settings.load(config))
    name = settings.load(config).name
    client = mlflow_store.make_client(store)
    client.set_model_version_tag(name, "1", "sentiflow.test_rows", "of other data")
    register(bad)
    promotion.promote(settings.load(config))
    data = manifest.read(prepared)["fingerprint"]
    for number, accuracy in (("1", "0.875000"), ("2", "0.125000")):
        tags = client.get_model_version(name, number).tags
        assert tags["sentiflow.test_accuracy"] == accuracy
        assert tags["sentiflow.test_rows"] == "8"
        assert tags["sentiflow.test_data"] == data


def test_no_rows_to_compare_by_give_one_clear_line(config, register, good, tmp_path):
    register(good)
    elsewhere = [f"train.prepared_uri={tmp_path}/absent"]
    with pytest.raises(UserError, match=r"train\.prepared_uri: .*absent has no manifest"):
        promotion.promote(settings.load(config, elsewhere))
    spec = OutputSpec("prepare", str(tmp_path / "empty"), {}, {})
    publish(spec, classes=list(SENTIMENT140))
    with pytest.raises(UserError, match="no labelled row in its test split"):
        promotion.promote(settings.load(config, [f"train.prepared_uri={tmp_path}/empty"]))
    only_neutral = pa.table(
        {"text": ["neither", "nor"], "label": pa.array([NEUTRAL] * 2, pa.int8())}
    )
    spec = OutputSpec("prepare", str(tmp_path / "neutral"), {}, {})
    files = parquet.write_part(spec.uri, "tweets/split=test/part-0.parquet", only_neutral)
    publish(spec, files=files, classes=list(SENTIMENT140))
    left_out = (
        "all 2 labelled rows in the test split of .*neutral have a class .*left out.*: neutral: "
    )
    with pytest.raises(UserError, match=left_out):
        promotion.promote(settings.load(config, [f"train.prepared_uri={spec.uri}"]))
    assert aliases(config) == {CANDIDATE: 1}


@pytest.mark.parametrize("left_out", [[], ["neutral"]])
def test_a_class_that_one_lacks_is_its_mistake(config, register, make_package, prepared, left_out):
    two = make_package(seed=1, left_out=left_out)
    register(two)
    promotion.promote(settings.load(config))
    three = make_package(seed=3, classes=("negative", "positive", "neutral"))
    register(three)
    outcome = promotion.promote(settings.load(config))
    found = outcome.comparison
    text = promotion.to_text(outcome)
    assert found.classes == ("negative", "positive")
    assert found.other_classes == (() if left_out else ("neutral",))
    assert found.left_out == ({"neutral": 1} if left_out else {})
    assert ("rows with these labels are mistakes of the other" in text) == (not left_out)
    assert ("leave out their classes: neutral 1" in text) == bool(left_out)
    tweets = pa.concat_tables(
        parquet.read(f"{prepared}/tweets/split=test/part-{k}.parquet") for k in (0, 1)
    ).filter(pa.compute.field("label") < (2 if left_out else 3))
    label = tweets["label"].to_numpy()
    text = tweets["text"].combine_chunks()
    assert found.num_rows == len(label) == (8 if left_out else 9)
    predictions = [ModelPackage.load(each).score(text).prediction for each in (three, two)]
    assert found.candidate_accuracy == (predictions[0] == label).mean()
    assert found.champion_accuracy == (predictions[1] == label).mean()
    for figure, each in zip(
        (found.candidate_f1_macro, found.champion_f1_macro), predictions, strict=True
    ):
        assert figure == pytest.approx(f1_score(label, each, average="macro"))


def test_a_label_that_no_model_knows_is_a_mistake_of_both(config, register, make_package):
    register(make_package(seed=1))
    found = promotion.promote(settings.load(config))
    assert (found.comparison.num_rows, found.comparison.unknown_classes) == (9, ("neutral",))
    assert found.comparison.candidate_accuracy == 7 / 9
    assert "test rows labelled neutral count as mistakes: the model does not know" in str(found)
