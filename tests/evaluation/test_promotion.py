"""Candidates and champions in a real MLflow store, judged on prepared rows."""

# ruff: noqa: F401, F811 - fixtures of another file

import json
import re
import shutil
from datetime import UTC, datetime

import pytest
from candidates import (
    aliases,
    bad,
    config,
    good,
    log,
    prepared,
    register,
    store,
)
from conftest import make_store, messages
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.errors import UserError
from sentiflow.evaluation import promotion
from sentiflow.evaluation.champion_figures import ChampionTest
from sentiflow.models.package import ModelPackage
from sentiflow.tracking import mlflow_store
from sentiflow.tracking.model_registry import CANDIDATE, CHAMPION

PROMOTED = r"promoted by \w+, 20\d\d-\d\d-\d\d \d\d:\d\d UTC"


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
    *lines, mine, earlier = result.stdout.splitlines()
    assert lines == [
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
    assert re.fullmatch(rf"  {PROMOTED}", mine)
    assert re.fullmatch(rf"  version 1: {PROMOTED}", earlier)
    assert aliases(config) == {CANDIDATE: 2, CHAMPION: 2}


def test_a_worse_candidate_is_refused_in_one_line(config, register, good, bad):
    register(good)
    promotion.promote(settings.load(config))
    register(bad)
    result = invoke(config)
    assert result.exit_code == 3, "the same command would give the same answer"
    assert result.stdout == ""
    (line,) = messages(result.stderr)
    assert "version 2 of test_a_worse" in line
    assert "champion, version 1: its accuracy is no higher; test accuracy 0.1250 against" in line
    assert "against 0.8750 on 8 rows (McNemar's test: p = 0.07); " in line
    assert re.search(rf"; version 1: {PROMOTED}; --force promotes it anyway$", line)
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


def test_the_champion_itself_stays(config, register, good):
    register(good)
    promotion.promote(settings.load(config))
    result = invoke(config, "--version", 1)
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first == "version 1 of test_the_champion_itself_stays is the champion already"
    assert re.fullmatch(rf"  {PROMOTED}", second)


def test_who_promoted_which_version_and_when_is_on_its_page(config, register, store, good, bad):
    """Also after a rollback; what was said before of a version stays."""

    def promote_as(user: str, **options: object) -> promotion.Promotion:
        return promotion.promote(settings.load(config, [f"tracking.user={user}"]), **options)

    def tags_of(number: int) -> dict[str, str]:
        tags = client.get_model_version(name, str(number)).tags
        return {key.removeprefix("sentiflow."): value for key, value in tags.items()}

    client = mlflow_store.make_client(store)
    name = settings.load(config).name
    register(bad)
    first = promote_as("anna")
    assert (first.record.by, first.earlier_record) == ("anna", None)
    register(good)
    second = promote_as("ben")
    assert (second.record.by, second.earlier_record) == ("ben", first.record)
    back = promote_as("carl", version=1, force=True)
    assert (back.record.by, back.earlier_record) == ("carl", second.record)
    assert promote_as("dora", version=1).record == back.record, "it is the champion already"
    one, two = tags_of(1), tags_of(2)
    assert (one["promoted_by"], two["promoted_by"]) == ("carl", "ben")
    assert (one["judged_by"], two["judged_by"]) == ("anna", "ben")
    assert one["promoted_because"] == "in place of version 2, without a comparison"
    assert two["promoted_because"] == "in place of version 1, accuracy +0.7500, p = 0.07"
    earlier = "anna: the first champion, test accuracy 0.1250"
    assert one["promoted_earlier"] == f"{first.record.at} {earlier}"
    assert "promoted_earlier" not in two
    age = datetime.now(UTC) - datetime.fromisoformat(one["promoted_at"])
    assert abs(age.total_seconds()) < 60


def test_a_champion_of_unknown_origin_is_one_line(config, register, store, good):
    number = register(good)
    name = settings.load(config).name
    client = mlflow_store.make_client(store)
    client.set_registered_model_alias(name, CHAMPION, str(number))
    assert promotion.promote(settings.load(config)).record is None
    client.set_model_version_tag(name, "1", "sentiflow.promoted_by", "a\x1b[2J")
    client.set_model_version_tag(name, "1", "sentiflow.promoted_at", "soon")
    line = invoke(config).stdout.splitlines()[1]
    assert line == r"  promoted by a\x1b[2J, soon  UTC"


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
