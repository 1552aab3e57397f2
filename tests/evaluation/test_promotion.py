"""Candidates and champions in a real MLflow store, judged on prepared rows."""

import contextlib
import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from conftest import make_store
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sklearn.metrics import f1_score
from stages import publish
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.config.class_names import SENTIMENT140
from sentiflow.data import manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import UserError
from sentiflow.evaluation import champion_test, promotion
from sentiflow.evaluation.champion_test import ChampionTest
from sentiflow.models.package import ModelPackage
from sentiflow.storage import parquet
from sentiflow.tracking import experiment_store, mlflow_store, model_registry, recording
from sentiflow.tracking.model_registry import CANDIDATE, CHAMPION
from sentiflow.tracking.runs import FINGERPRINT_TAG

TEXTS = ["good morning", "bad day", "good", "bad", "morning", "day bad good", "day", "morning day"]
NEUTRAL, UNLABELLED = 2, None


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    uri = make_store(tmp_path_factory.mktemp("store"))
    experiment_store.open_store(uri, experiment="laws", required=True)
    return uri


@pytest.fixture(scope="module")
def good(make_package) -> str:
    return make_package(seed=1, left_out=["neutral"])


@pytest.fixture(scope="module")
def bad(make_package) -> str:
    """Save a package that gives the opposite answers."""
    return make_package(seed=1, sign=-1, left_out=["neutral"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, good) -> str:
    """Prepare rows of which the good package gets 7 of 8 right, and some that are not compared."""
    uri = str(tmp_path_factory.mktemp("prepared") / "prepared")
    labels = ModelPackage.load(good).score(pa.array(TEXTS)).prediction.tolist()
    labels[3] = 1 - labels[3]
    spec = OutputSpec("prepare", uri, {}, {}, owns=("tweets",))
    parts = [
        ("test/part-0", [*TEXTS[:5], "neither"], [*labels[:5], NEUTRAL]),
        ("test/part-1", [*TEXTS[5:], "unknown"], [*labels[5:], UNLABELLED]),
        ("test/part-2", ["nobody knows"], [UNLABELLED]),
        ("train/part-0", TEXTS, [1 - label for label in labels]),
    ]
    files = []
    for name, texts, numbers in parts:
        table = pa.table({"text": texts, "label": pa.array(numbers, pa.int8())})
        files += parquet.write_part(uri, f"tweets/split={name}.parquet", table)
    publish(spec, files=files, classes=list(SENTIMENT140))
    return uri


@pytest.fixture
def config(tmp_path, request, store, prepared, monkeypatch) -> Path:
    """Write a settings file with a model name of its own."""
    name = re.sub(r"[^\w.-]+", "-", request.node.name)[:60].strip("-")
    sections = {"prepare": {"csv": "x.csv"}, "train": {"prepared_uri": prepared}}
    sections |= {"output_uri": str(tmp_path / "run"), "tracking": {"uri": store}}
    monkeypatch.setattr(promotion, "MAX_P_VALUE", 0.1)  # 7 rows to 1 have a p-value of 0.07
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"name": name} | sections))
    return path


@pytest.fixture(scope="module")
def log(store) -> Callable[[str], ModelVersion]:
    """Log packages to the store, each once."""

    @functools.cache
    def run(package: str) -> ModelVersion:
        opened = experiment_store.open_store(store, experiment="laws", required=True)
        with recording.open_run(opened, "train", group="0123abcd", tags={}) as recorder:
            version = model_registry.register(
                package, name="logged", tracking_uri=store, run_id=recorder.run_id
            )
        return mlflow_store.make_client(store).get_model_version("logged", str(version.number))

    return run


@pytest.fixture
def register(config, store, log) -> Callable[[str], int]:
    """Register packages, each as the candidate; gives the number of the version."""
    name = settings.load(config).name
    client = mlflow_store.make_client(store)

    def run(package: str) -> int:
        logged = log(package)
        tags = {FINGERPRINT_TAG: logged.tags[FINGERPRINT_TAG]}
        known = model_registry.find(name, tags[FINGERPRINT_TAG], tracking_uri=store)
        if known is None:
            with contextlib.suppress(MlflowException):  # it is there
                client.create_registered_model(name)
            made = client.create_model_version(
                name, logged.source, run_id=logged.run_id, tags=tags, model_id=logged.model_id
            )
        number = known.number if known else int(made.version)
        client.set_registered_model_alias(name, CANDIDATE, str(number))
        return number

    return run


def aliases(config: Path) -> dict[str, int]:
    loaded = settings.load(config)
    return model_registry.read_aliases(loaded.name, tracking_uri=loaded.tracking.uri)


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["promote", *map(str, arguments)])


def test_the_first_candidate_becomes_champion(config, register, bad):
    register(bad)
    result = promotion.promote(settings.load(config))
    assert result.promoted
    assert result.champion is None
    assert result.comparison.num_rows == 8
    assert result.comparison.candidate_accuracy == 1 / 8
    assert result.comparison.p_value is None
    now = "version 1 is the champion of test_the_first_candidate_becomes_champion now"
    assert promotion.to_text(result).splitlines()[0] == f"{now}: test accuracy 0.1250, 8 rows"
    assert aliases(config) == result.aliases == {CANDIDATE: 1, CHAMPION: 1}


def test_a_better_candidate_becomes_champion(config, register, good, bad):
    register(bad)
    promotion.promote(settings.load(config))
    register(good)
    result = invoke(config)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "version 2 is the champion of test_a_better_candidate_becomes_champion now, in place of "
        "version 1",
        "  version 2: test accuracy 0.8750, 8 rows",
        "  version 1: test accuracy 0.1250, the same rows",
        "  right only by version 2: 7 rows; only by version 1: 1 (McNemar's test: p = 0.07)",
        "  gain +0.7500 (95% interval +0.1042 to +1.0000)",
        "  test rows are left out, as the settings of a training leave out their classes: "
        "neutral 1",
        "  the training texts of models:/test_a_better_candidate_becomes_champion/2 and "
        "models:/test_a_better_candidate_becomes_champion/1 are unknown",
    ]
    assert aliases(config) == {CANDIDATE: 2, CHAMPION: 2}


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


def test_a_worse_candidate_is_refused_in_one_line(config, register, good, bad):
    register(good)
    promotion.promote(settings.load(config))
    register(bad)
    result = invoke(config)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "version 2 of test_a_worse" in line
    assert "champion, version 1: its accuracy is no higher; test accuracy 0.1250 against" in line
    assert "against 0.8750 on 8 rows (McNemar's test: p = 0.07); " in line
    assert line.endswith("; --force promotes it anyway")
    assert aliases(config) == {CANDIDATE: 2, CHAMPION: 1}
    answer = json.loads(invoke(config, "--json").stdout)
    assert (answer["promoted"], answer["comparison"]["only_champion_right"]) == (False, 7)
    assert answer["comparison"]["p_value"] == pytest.approx(2 * (1 + 8) / 2**8)


def test_a_champion_is_not_replaced_by_noise(config, register, good, bad, monkeypatch):
    """One more right row was enough."""
    register(bad)
    promotion.promote(settings.load(config))
    monkeypatch.setattr(promotion, "MAX_P_VALUE", 0.05)
    register(good)
    found = promotion.promote(settings.load(config))
    assert found.refused
    objection = "gain of 0.7500 may be chance: p = 0.07 is above 0.05"
    assert objection in promotion.to_text(found)
    assert aliases(config) == {CANDIDATE: 2, CHAMPION: 1}


def test_texts_of_either_training_are_left_out_by_their_text(
    config, register, good, bad, prepared, tmp_path
):
    """Also in another preparation, which numbers its rows anew."""

    def train(name, package, texts):
        data = OutputSpec("prepare", str(tmp_path / name / "prepared"), {"name": name}, {})
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


def test_the_limit_falls_with_each_comparison_on_the_same_test_rows(
    config, register, good, bad, tmp_path
):
    register(bad)
    first = promotion.promote(settings.load(config))  # there is no champion to compare with
    assert (first.promoted, first.comparison.num_compared) == (True, 0)
    again = str(tmp_path / "again")
    ModelPackage.load(bad).save(again, lineage={"training": {"fingerprint": "another"}})
    register(again)
    for _ in range(2):  # a comparison that is read from the tag counts once
        assert promotion.promote(settings.load(config)).comparison.num_compared == 1
    register(good)
    found = promotion.promote(settings.load(config))
    assert (found.refused, found.comparison.num_compared) == (True, 2)
    said = "p = 0.07 is above 0.025, the limit of comparison 2 on the same test rows; new test rows"
    assert said in promotion.to_text(found)
    assert aliases(config) == {CANDIDATE: 3, CHAMPION: 1}


def test_a_comparison_too_long_for_a_tag_is_counted(config, register, good, bad, monkeypatch):
    monkeypatch.setattr(champion_test, "_MAX_TAG_LENGTH", 200)
    register(good)
    promotion.promote(settings.load(config))
    register(bad)
    for _ in range(2):
        assert promotion.promote(settings.load(config)).comparison.num_compared == 1
    name = settings.load(config).name
    key = champion_test._COMPARISON
    uri = mlflow_store.default_uri(settings.load(config).tracking.uri)
    data = manifest.read(settings.load(config).train.prepared_uri)["fingerprint"]
    tags = model_registry.find_tagged(name, champion_test._TEST_DATA, data, tracking_uri=uri)
    assert champion_test._find_compared(tags, data) == {2}
    assert len(tags[2][key]) <= 200


def test_force_sets_the_alias_and_scores_nothing(config, register, good, bad, tmp_path):
    """Also where the prepared data are gone, as when one goes back to an earlier version."""
    register(good)
    promotion.promote(settings.load(config))
    register(bad)
    gone = f"train.prepared_uri={tmp_path}/absent"
    for version, before in ((2, 1), (1, 2)):
        result = invoke(config, gone, "--force", "--version", version)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines()[0] == (
            f"version {version} is the champion of test_force_sets_the_alias_and_scores_nothing "
            f"now, without a comparison, in place of version {before}"
        )
        assert aliases(config) == {CANDIDATE: 2, CHAMPION: version}


def test_a_comparison_in_the_registry_is_not_made_twice(
    config, register, good, bad, make_package, monkeypatch
):
    register(good)
    promotion.promote(settings.load(config))
    register(bad)
    first = promotion.promote(settings.load(config))
    with monkeypatch.context() as patch:
        patch.setattr(champion_test, "_load", None)  # it would fail
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


def test_the_champion_itself_stays(config, register, good):
    register(good)
    promotion.promote(settings.load(config))
    result = invoke(config, "--version", 1)
    assert result.exit_code == 0
    assert result.stdout == "version 1 of test_the_champion_itself_stays is the champion already\n"


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


def test_no_candidate_gives_one_clear_line(config, register, store, good):
    with pytest.raises(UserError, match=r"name=test_no_candidate.* not found"):
        promotion.promote(settings.load(config))
    register(good)
    name = settings.load(config).name
    mlflow_store.make_client(store).delete_registered_model_alias(name, CANDIDATE)
    with pytest.raises(
        UserError, match="has no candidate: sentiflow run registers one, if it evaluates"
    ):
        promotion.promote(settings.load(config))
    with pytest.raises(UserError, match=r"version=5.* not found; sentiflow ui"):
        promotion.promote(settings.load(config), version=5)


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


@pytest.mark.ray
@pytest.mark.slow
def test_a_promotion_reaches_the_accuracy_that_the_report_has(finished_run, tmp_path):
    shutil.copy(finished_run / "mlflow.db", tmp_path)
    store = f"tracking.uri={make_store(tmp_path)}"
    result = invoke(finished_run / "config.yaml", store, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["comparison"]
    figures = json.loads((finished_run / "run/report/metrics.json").read_text())["figures"]["test"]
    assert found["candidate_accuracy"] == pytest.approx(figures["accuracy"])
    assert found["num_rows"] == figures["num_rows"]


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


def test_of_many_classes_that_are_left_out_the_first_are_listed():
    found = promotion.Promotion(
        name="a--force",
        candidate=2,
        champion=1,
        comparison=ChampionTest(
            num_rows=8,
            candidate_accuracy=0.5,
            champion_accuracy=0.75,
            only_candidate_right=0,
            only_champion_right=2,
            left_out={f"class{number}": 1_000 - number for number in range(12)},
        ),
        promoted=False,
        aliases={CHAMPION: 1},
        objection="its accuracy is no higher",
    )
    text = promotion.to_text(found)
    assert "leave out their classes: “class0” 1,000, “class1” 999, " in text
    assert ", “class9” 991, … 2 more; " in text
    assert "the lowest of" not in text
    assert text.endswith("; --force promotes it anyway")
    assert str(found) == text.replace("; --force promotes", "; force=True promotes")
    assert "a--force" in str(found), "the name of the model stays"
