"""Two runs, named in any way, are compared with sound metrics and in plain words."""

import json
import re
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from conftest import messages
from test_evaluated_rows import LABEL, NUM_ROWS, ROW_IDS, TEXTS, Runs, by_tens, csv_input, tens
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.cli.compare import to_text
from sentiflow.evaluation import comparison
from sentiflow.metrics import classification, paired
from sentiflow.metrics.predicted import Predicted

TEST = np.array(tens(8, 9))
WITH_NOT = [i for i in TEST.tolist() if i % 4 == 0]
"""Test rows that hold a negation, and a question mark."""


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def invoke(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def line_of(result):
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = messages(result.stderr)
    return line


# Figures


def test_metrics_and_differences_are_those_of_the_common_rows(runs):
    a = runs.run("a", wrong=[8, 18, 19, 29])
    b = runs.run("b2", wrong=[8, 9])
    found = comparison.compare(a, b)
    assert found.num_rows == 60
    first = found.first.figures
    second = found.second.figures
    assert (first["accuracy"], second["accuracy"]) == (56 / 60, 58 / 60)
    assert (found.mcnemar.only_first_right, found.mcnemar.only_second_right) == (1, 3)
    assert found.mcnemar.p_value == paired.mcnemar(1, 3)
    expected = paired.accuracy_difference(only_first=1, only_second=3, num_rows=60)
    assert found.differences["accuracy"] == expected
    assert list(found.differences) == ["accuracy", "f1_macro", "roc_auc", "log_loss", "brier"]
    for name, difference in found.differences.items():
        between = second[name] - first[name]
        assert difference.value == pytest.approx(between), name
        assert difference.low <= difference.value <= difference.high


def test_a_slice_that_differs_is_listed_first_and_others_do_not_differ(runs):
    a = runs.run("a")
    b = runs.run("b", wrong=WITH_NOT)
    found = comparison.compare(a, b, patterns={"tens": "[0-9]8"})
    by_name = {item.name: item for item in found.slices}
    moved = [item.name for item in found.slices if item.moved]
    assert found.slices[0].name in ("negation", "question")
    assert {"negation", "question"} <= set(moved)
    assert moved == [item.name for item in found.slices[: len(moved)]]
    negation = by_name["negation"]
    assert (negation.num_rows, negation.accuracy_first, negation.accuracy_second) == (15, 1, 0)
    p_values = [item.difference.p_value for item in found.slices]
    assert [item.p_adjusted for item in found.slices] == paired.adjust(p_values)
    assert all(item.p_adjusted >= item.difference.p_value for item in found.slices)
    assert by_name["tens"].num_rows == sum(re.search("[0-9]8", TEXTS[i]) is not None for i in TEST)
    assert not any("unknown" in name or "known" in name for name in by_name)


def test_without_texts_a_note_says_that_there_are_no_slices(runs):
    a = runs.run("a")
    b = runs.score("b", f"{a}/prepared", f"{a}/trained", split=by_tens())
    shutil.rmtree(f"{a}/prepared")
    found = comparison.compare(a, b)
    assert found.slices == []
    assert any(note.startswith("no slices: there are no texts") for note in found.notes)


# Verdict


def test_the_verdict_says_better_worse_or_that_it_may_be_chance(runs):
    good = runs.run("good")
    bad = runs.run("bad", wrong=TEST[:20])
    fair = runs.run("fair", wrong=TEST[:3])
    verdict = comparison.compare(bad, good).verdict
    assert verdict.startswith(
        f"{good} is better than {bad}: its accuracy is 33.33 percentage points higher"
    )
    assert verdict.endswith("60 rows, p < 0.001).")
    assert f"{bad} is worse than {good}: its accuracy is 33.33 percentage points lower" in (
        comparison.compare(good, bad).verdict
    )
    verdict = comparison.compare(good, fair).verdict
    assert verdict.startswith(
        f"No difference shown: the accuracy of {fair} is 5.00 percentage points lower"
    )
    assert verdict.endswith("; the difference may be chance: p = 0.25.")
    a = runs.run("a", wrong=[8])
    b = runs.run("b2", wrong=[9])
    assert "both have the same accuracy" in comparison.compare(a, b).verdict
    same = comparison.compare(a, a)
    assert same.verdict == "No difference shown: both predict the same label on each of 60 rows."
    assert "both are the same model" in same.notes


# Names


def test_a_run_is_named_by_its_directory_or_that_of_its_predictions(runs, monkeypatch):
    a = runs.run("a", wrong=[8])
    b = runs.run("b")
    monkeypatch.chdir(runs.folder)
    found = comparison.compare("a", "b/scored")
    assert (found.first.name, found.second.name) == ("a", "b/scored")
    assert (found.first.scored_uri, found.second.scored_uri) == (f"{a}/scored", f"{b}/scored")


@pytest.mark.parametrize(
    "name", ["absent", "a/trained", "a/scored/predictions", "a/scored/manifest.json"]
)
def test_what_holds_no_predictions_gives_one_clear_line(runs, monkeypatch, name):
    runs.run("a")
    monkeypatch.chdir(runs.folder)
    assert f"{name} holds no finished predictions: score it first; or name" in line_of(
        invoke("a", name)
    )


# Output


def test_json_holds_all_of_it(runs):
    a = runs.run("a", wrong=[8])
    b = runs.run("b", wrong=WITH_NOT)
    result = invoke(a, b, "--json", "--slice", "tens=[0-9]8")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads(
        json.dumps(asdict(comparison.compare(a, b, patterns={"tens": "[0-9]8"})))
    )
    assert found["slices"][0]["difference"]["low"] < -0.5
    label = LABEL[TEST]
    prediction = np.where(np.isin(TEST, WITH_NOT), 1 - LABEL[TEST], LABEL[TEST])
    expected = classification.measure(
        Predicted.of_positive(label=label, prediction=prediction, probability=prediction)
    )
    for name in ("accuracy", "f1_macro", "true_positive"):
        assert found["second"]["figures"][name] == expected.scalars[name]


def test_text_shows_what_differs_and_fits_the_page(runs, monkeypatch):
    name = "a-run-with-a-long-name"
    runs.run("a", train={"dropout": 0.3, "model": {"vectors": "x" * 90}})
    runs.run(name, wrong=WITH_NOT, train={"dropout": 0.4}, rows=[i for i in ROW_IDS if i != 9])
    monkeypatch.chdir(runs.folder)
    result = invoke("a", name, "--slice", f"{'long ' * 9}=number")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in result.stdout
    text = " ".join(result.stdout.split())
    assert "first a model " in text
    assert "gru(6), bidirectional, last; tokenizer tweet, 1,234 words" in text
    assert "59 labelled test rows are compared. 1 more row is in the first run only." in text
    assert "train.dropout 0.3 0.4" in text
    assert "Accuracy 1.0000 0.7458 -0.2542" in text
    assert "Only the first is right on 15 rows, only the second on 0. McNemar's" in text
    assert "negation 15 1.0000 0.0000 -1.0000" in text
    assert "p is adjusted for 3 slices (Holm)" in text  # one holds every row
    assert text.endswith("59 rows, p < 0.001).")


def test_rows_of_different_files_are_counted_in_text_json_and_markdown(runs, tmp_path):
    a = runs.run("a", wrong=[8, 9])
    texts = TEXTS[:-10] + [f"a new text {i}" for i in range(10)]
    b = runs.run("b", prepare={"csv": csv_input("0ther"), "texts": texts})
    path = tmp_path / "report.md"
    result = invoke(a, b, "--markdown", path)
    assert result.exit_code == 0, result.output
    expected = (
        "58 labelled test rows are compared, of 60 in the first run and 60 in the second: the runs "
        "have different files, so their rows are joined by text. 2 more rows are in the first run "
        "only. 2 more rows are in the second run only."
    )
    assert expected in " ".join(result.stdout.split())
    assert expected in " ".join(path.read_text().split())
    found = json.loads(invoke(a, b, "--json").stdout)
    assert (found["num_rows"], found["joined_by"]) == (58, "text")
    assert [found[side]["num_rows_labelled"] for side in ("first", "second")] == [60, 60]
    assert found["mcnemar"]["only_second_right"] == 2
    same = json.loads(invoke(a, a, "--json").stdout)
    assert (same["joined_by"], same["first"]["num_rows_labelled"]) == ("row_id", 60)
    invoke(a, a, "--markdown", path)
    assert "rows are compared" not in path.read_text()


def test_runs_without_a_common_text_give_one_clear_line(runs):
    a = runs.run("a")
    texts = [f"a new text {i}" for i in range(NUM_ROWS)]
    b = runs.run("b", prepare={"csv": csv_input("0ther"), "texts": texts})
    assert "no labelled text is in both that neither model was trained on" in line_of(invoke(a, b))


def test_a_wrong_slice_gives_one_clear_line(runs):
    a = runs.run("a")
    line = line_of(invoke(a, a, "--slice", "rain"))
    assert "--slice: the predictions have no column rain; their columns are row_id" in line
    assert "--slice rain: '(' is not a regular" in line_of(invoke(a, a, "--slice", "rain=("))


def test_a_worse_run_fails_with_exit_code_3_and_names_what_is_worse(runs, tmp_path):
    good = runs.run("good")
    bad = runs.run("bad", wrong=TEST[:20])
    failed = invoke(good, bad, "--fail-if-worse")
    assert failed.exit_code == 3
    text = " ".join(failed.stdout.split())
    assert "worse rows first second difference 95% interval accuracy 60 1.0000 0.6667" in text
    assert "p is adjusted for 2 checks (Holm)." in text
    for arguments in (
        (bad, good, "--fail-if-worse"),
        (good, good, "--fail-if-worse"),
        (good, bad, "--fail-if-worse", "0.4"),
        (good, bad, "--fail-if-worse=0.4"),
    ):
        passed = invoke(*arguments)
        assert passed.exit_code == 0, passed.output
        assert "Not worse" in passed.stdout
    assert invoke("--fail-if-worse", good, bad).exit_code == 3
    assert invoke(good, bad, "--fail-if-worse", "2").exit_code == 2
    found = json.loads(invoke(good, bad, "--fail-if-worse", "0.1", "--json").stdout)
    assert found["regression"]["margin"] == 0.1
    assert json.loads(invoke(good, bad, "--json").stdout)["regression"] is None


def test_a_column_has_a_slice_for_each_value(runs):
    airline = np.where(np.arange(NUM_ROWS) % 2, "Delta", "United")
    wrong = [i for i in TEST.tolist() if i % 2]
    good = runs.run("good", airline=airline)
    bad = runs.run("bad", wrong=wrong)
    result = invoke(good, bad, "--slice", "airline", "--fail-if-worse")
    assert result.exit_code == 3, result.output
    assert re.search(r"slice airline: Delta\s+30\s+1\.0000\s+0\.0000", result.stdout)
    assert "slice airline: United" not in result.stdout
    found = comparison.compare(good, bad, columns=["airline"])
    assert [item.is_own for item in found.slices if "airline" in item.name] == [True, True]


def test_slices_without_a_difference_are_counted_whether_they_are_listed_or_not(runs):
    airline = np.where(np.arange(NUM_ROWS) % 2, "Delta", "United")
    good = runs.run("good", airline=airline)
    bad = runs.run("bad", wrong=WITH_NOT)
    found = comparison.compare(good, good, columns=["airline"])
    assert "A difference is shown in none of the 4 slices. p is adj" in to_text(found)
    found = comparison.compare(good, bad, columns=["airline"])
    num_same = sum(not item.moved for item in found.slices)
    assert 0 < num_same < len(found.slices) == 4
    unlisted = [item for item in found.slices if not item.moved and not item.is_own]
    assert len(unlisted) < num_same
    expected = f"No difference is shown in {num_same} of the 4 slices. p is adjusted"
    assert expected in to_text(found)


def test_markdown_has_the_verdict_and_what_is_worse_and_escapes_names(runs, tmp_path):
    good = runs.run("good")
    bad = runs.run("b|_ad", wrong=WITH_NOT)
    path = tmp_path / "report.md"
    result = invoke(good, bad, "--slice", "a|b=(?i)not", "--fail-if-worse", "--markdown", path)
    assert result.exit_code == 3
    text = path.read_text()
    assert text.startswith(f"### {bad} compared".replace("|", "\\|").replace("_", "\\_"))
    assert "| slice a\\|b | 15 | 1.0000 | 0.0000 | -1.0000 |" in text
    assert "| **Worse** | rows |" in text
    assert "| Accuracy | 1.0000 | 0.7500 | -0.2500 |" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 7, 8), line
    invoke(good, good, "--fail-if-worse", "--markdown", path)
    assert "**Not worse**: none of 2 checks shows it" in path.read_text()
