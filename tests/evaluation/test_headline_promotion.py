"""A champion is replaced by the metric that the config names, and seldom by chance."""

# ruff: noqa: F401, F811 - fixtures of another file

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from candidates import TEXTS, aliases, config, log, prepared, register, store
from conftest import messages
from sklearn.metrics import cohen_kappa_score, f1_score, mean_absolute_error
from stages import publish
from typer.testing import CliRunner

import sentiflow
from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import UserError
from sentiflow.evaluation import champion_test, contenders, promotion
from sentiflow.evaluation.champion_figures import ChampionTest, HeadlineTest
from sentiflow.evaluation.regression import Check, find_regression
from sentiflow.metrics import paired
from sentiflow.metrics.dependence import AuthorGroups
from sentiflow.metrics.predicted import Predicted
from sentiflow.metrics.registry import find_metric
from sentiflow.storage import parquet
from sentiflow.tracking import mlflow_store
from sentiflow.tracking.model_registry import CANDIDATE, CHAMPION

STARS = ("1", "2", "3", "4", "5")
VALUES = (1.0, 2.0, 3.0, 4.0, 5.0)
ROWS = [f"{text} again {number}" for text in TEXTS for number in range(10)]
ORDERED = "format={kind: csv, columns: {text: text, label: stars}, labels: auto, ordered: true}"
NUM_ROWS = 500
NUM_DRAWS = 2000


@pytest.fixture(scope="module")
def good(make_package) -> str:
    return make_package(seed=2, sign=40, classes=STARS, class_values=VALUES)


@pytest.fixture(scope="module")
def bad(make_package) -> str:
    return make_package(seed=2, sign=-40, classes=STARS, class_values=VALUES)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory, good) -> str:
    """Prepare rows whose labels are the median labels of the good package, some one star off."""
    uri = str(tmp_path_factory.mktemp("ordered") / "prepared")
    label = sentiflow.load_model(good).predict(ROWS)["median_label"].astype(int).to_numpy() - 1
    label[::5] = np.where(label[::5] > 0, label[::5] - 1, 1)
    table = pa.table({"text": ROWS, "label": pa.array(label, pa.int8())})
    files = parquet.write_part(uri, "tweets/split=test/part-0.parquet", table)
    spec = OutputSpec("prepare", uri, {}, {}, owns=("tweets",))
    publish(spec, files=files, classes=list(STARS), class_values=list(VALUES))
    return uri


@pytest.fixture
def load(config, ordered):
    def run(headline: str, **changes: str):
        uri = changes.get("prepared_uri", ordered)
        return settings.load(
            config, [ORDERED, f"train.prepared_uri={uri}", f"evaluate.headline={headline}"]
        )

    return run


def measure(headline: str, package: str, uri: str) -> float:
    """Measure a metric by scikit-learn."""
    label = parquet.read(f"{uri}/tweets/split=test/part-0.parquet")["label"].to_numpy() + 1
    answers = sentiflow.load_model(package).predict(ROWS)
    median = answers["median_label"].astype(int)
    if headline == "mae":
        return mean_absolute_error(label, median)
    if headline == "quadratic_kappa":
        kappa = cohen_kappa_score(label, median, weights="quadratic", labels=range(1, 6))
        return round(kappa, 12) + 0.0  # not -0.0
    return f1_score(label, answers["predicted_label"].astype(int), average="macro")


@pytest.mark.parametrize("headline", ["mae", "quadratic_kappa", "f1_macro"])
def test_the_headline_decides_and_is_named_everywhere(
    load, register, store, good, bad, ordered, headline
):
    phrase = find_metric(headline).phrase
    register(bad)
    first = promotion.promote(load(headline))
    before = measure(headline, bad, ordered)
    assert first.comparison.headline == HeadlineTest(headline, pytest.approx(before))
    assert f" now: {phrase} {before:.4f}, test accuracy " in str(first)
    assert first.record.reason == f"the first champion, test {phrase} {before:.4f}"
    register(good)
    found = promotion.promote(load(headline))
    after = measure(headline, good, ordered)
    test = found.comparison
    assert found.promoted
    assert (test.headline.candidate, test.headline.champion) == pytest.approx((after, before))
    assert test.headline.difference.value == pytest.approx(after - before)
    assert test.headline.gain > 0
    lines = str(found).splitlines()
    assert lines[1].startswith(f"  version 2: {phrase} {after:.4f}, test accuracy ")
    assert lines[2].startswith(f"  version 1: {phrase} {before:.4f}, test accuracy ")
    assert lines[4].startswith(f"  {phrase}: difference {after - before:+.4f} (95% interval ")
    assert lines[5].startswith("  accuracy: difference ")
    outcome = f"{phrase} {after - before:+.4f}, {paired.write_p(test.headline.difference.p_value)}"
    assert found.record.reason == f"in place of version 1, {outcome}"
    tags = mlflow_store.make_client(store).get_model_version(found.name, "2").tags
    assert tags["sentiflow.comparison"].endswith(outcome)
    assert float(tags[f"sentiflow.test_{headline}"]) == pytest.approx(after, abs=1e-6)
    assert float(tags["sentiflow.test_accuracy"]) == pytest.approx(test.candidate_accuracy)


def test_a_worse_mean_absolute_error_is_refused_in_one_line(config, load, register, good, bad):
    register(good)
    promotion.promote(load("mae"))
    register(bad)
    loaded = load("mae")
    asked = [ORDERED, f"train.prepared_uri={loaded.train.prepared_uri}", "evaluate.headline=mae"]
    result = CliRunner().invoke(app, ["promote", str(config), *asked])
    assert result.exit_code == 3
    (line,) = messages(result.stderr)
    assert "version 1: its mean absolute error is no lower; mean absolute error " in line
    assert re.search(r"against 0\.\d{4} \(z-test of pairs: p < 0\.001\); test accuracy 0", line)
    answer = json.loads(CliRunner().invoke(app, ["promote", str(config), *asked, "--json"]).stdout)
    headline = answer["comparison"]["headline"]
    assert headline["metric"] == "mae"
    assert headline["candidate"] > headline["champion"]
    assert aliases(config) == {CANDIDATE: 2, CHAMPION: 1}


def test_another_headline_is_another_comparison_of_the_same_version(
    load, register, good, bad, monkeypatch
):
    register(good)
    promotion.promote(load("mae"))
    register(bad)
    by_error = promotion.promote(load("mae"))
    by_accuracy = promotion.promote(load("accuracy"))
    assert by_accuracy.comparison.headline.metric == "accuracy"
    assert "error" not in str(by_accuracy)
    for found in (by_error, by_accuracy):
        assert (found.refused, found.comparison.num_compared) == (True, 1)
    monkeypatch.setattr(contenders, "load", None)  # it would fail
    assert promotion.promote(load("accuracy")) == by_accuracy


def test_a_champion_without_an_order_is_measured_by_the_numbers_of_the_data(
    load, register, make_package, good, ordered
):
    without = make_package(seed=2, sign=-40, classes=STARS)
    register(without)
    promotion.promote(load("mae"))
    register(good)
    with_order = make_package(seed=2, sign=-40, classes=STARS, class_values=VALUES)
    found = promotion.promote(load("mae")).comparison.headline
    assert found.champion == pytest.approx(measure("mae", with_order, ordered))


def test_classes_without_an_order_have_no_mean_absolute_error(
    load, register, good, make_package, prepared
):
    register(good)
    with pytest.raises(UserError, match=r"evaluate\.headline='mae': the classes in .* no order"):
        promotion.promote(load("mae", prepared_uri=prepared))
    register(make_package(seed=1))
    with pytest.raises(UserError, match="no number is known of negative and positive"):
        promotion.promote(load("mae"))


def test_an_undefined_headline_replaces_no_champion():
    test = ChampionTest(8, 0.5, 0.25, 4, 2, headline=HeadlineTest("quadratic_kappa", None, 0.5))
    found = "the quadratic kappa of the two is undefined on these rows"
    assert promotion.find_objection(test) == found


def draw(rng, *, by_author=False):
    """Draw the stars of two equally good models; of whole authors, mistakes are alike."""
    label = rng.integers(0, 5, NUM_ROWS)
    author = np.arange(NUM_ROWS) // 5
    answers = []
    for _ in range(2):
        shift = rng.choice([-1, 0, 0, 1], NUM_ROWS)
        if by_author:
            shift = rng.choice([-1, 0, 0, 1], NUM_ROWS // 5)[author]
        answers.append(np.clip(label + shift, 0, 4))
    groups = AuthorGroups(author) if by_author else None
    return [
        Predicted(STARS, label, answer, np.eye(5)[answer], groups, class_values=VALUES)
        for answer in answers
    ]


@pytest.mark.parametrize("by_author", [False, True])
def test_an_equal_model_seldom_replaces_the_champion(by_author):
    """At most 2.5% at the first comparison, up to a Monte Carlo error of 0.35 points."""
    rng = np.random.default_rng(4)
    replaced = {"mae": 0, "quadratic_kappa": 0}
    for _ in range(NUM_DRAWS):
        champion, candidate = draw(rng, by_author=by_author)
        for name in replaced:
            found = find_metric(name).difference(champion, candidate)
            test = ChampionTest(
                NUM_ROWS, 0, 0, 0, 0, headline=HeadlineTest(name, 0, 0, difference=found)
            )
            replaced[name] += not promotion.find_objection(test)
    shares = {name: number / NUM_DRAWS for name, number in replaced.items()}
    print(f"by author: {by_author}; replaced by chance: {shares}")
    assert max(shares.values()) <= 0.035
    assert shares["mae"] > 0.005, "the test sees gains"


def test_the_test_of_macro_f1_reaches_the_limits_of_many_comparisons():
    label = np.tile([0, 1], 500)
    first = label ^ (np.arange(1000) % 3 == 0)
    models = [Predicted(("a", "b"), label, each, np.eye(2)[each]) for each in (first, label)]
    test = ChampionTest(1000, 1.0, None, 0, 0, headline=HeadlineTest("f1_macro", 1.0))
    found = champion_test._add_champion(test, candidate=models[1], champion=models[0])
    assert found.headline.difference.p_value < promotion.find_limit(100)
    assert isinstance(found.f1_macro_difference, paired.Difference)


def test_a_higher_error_is_worse_and_a_lower_one_is_not():
    found = paired.Difference(0.3, 0.2, 0.4, p_value=1e-8)
    for sign, is_worse in ((1, True), (-1, False)):
        difference = paired.Difference(sign * 0.3, *sorted((sign * 0.2, sign * 0.4)), 1e-8)
        for margin in (0, 0.1):
            check = Check("mae", 99, 1.0, 1.0, difference, higher_is_better=False)
            assert bool(find_regression([check], margin=margin).worse) == is_worse
    assert not find_regression([Check("accuracy", 99, 1.0, 1.0, found)], margin=0).worse
