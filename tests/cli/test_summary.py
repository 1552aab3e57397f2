"""What a job prints at its end: the files in ``golden/`` show it as the user sees it.

If a test fails and the new output is right, write the output into the file.
"""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sentiflow.cli import jobs
from sentiflow.cli.app import app
from sentiflow.pipeline.stages import Outcome

GOLDEN = Path(__file__).parent / "golden"
SPLITS = ("train", "validation", "test")
LABELS = {"negative": 2, "positive": 1, "neutral": 0, "unlabelled": 0}
TOPICS = {f"topic {number}": number for number in range(77, 0, -1)} | {"unlabelled": 2_000}
PREPARED = {
    "counts": {
        "rows_read": 12_345,
        "accepted": 9,
        "rejected": 0,
        "rejected_by_reason": {},
        "left_out": 0,
        "left_out_by_reason": {},
        "labels": dict.fromkeys(SPLITS, LABELS),
    },
    "duplicates": {
        "normalized": {"surplus_rows": 4, "leaked_rows": {"test_in_train": 3}},
        "contradicting": {"texts": 2},
    },
    "vocabulary": {
        "words": 70,
        "words_with_vector": 60,
        "tokens": {"test": {"unknown_fraction": 0.0456}},
    },
    "fixed_splits": [],
    "settings": {},
    "seconds": 0.1,
}
UNLABELLED = {
    "rows_read": 1_200,
    "accepted": 1_000,
    "rejected": 50,
    "rejected_by_reason": {"empty text": 50},
    "left_out": 150,
    "left_out_by_reason": {"held_out": 150},
    "tokens": {"unknown_fraction": 0.2418},
}
EVERYTHING = {
    "rejected": 7,
    "rejected_by_reason": {"empty text": 2, "unknown label": 5},
    "left_out": 1,
    "left_out_by_reason": {"repeated": 1},
    "damaged": 1,
    "labels": dict.fromkeys(SPLITS, TOPICS),
    "corrections": {"labels": 12, "rows": 1_500},
    "unlabelled": UNLABELLED,
}
DAYS = {"first_day": "2026-03-01", "last_day": "2026-03-12"}
MOST_REPEATED = {
    "most_repeated": [
        {"rows": 1_083, "row_id": 3, "text": "win | a \x1b[2Jprize", "users": 3} | DAYS,
        {"rows": 90, "row_id": 5, "text": "good morning " * 9, "users": 1},
        {"rows": 80, "row_id": 4, "text": "so", "first_day": "2026-03-01"}
        | {"last_day": "2026-03-01"},
        {"rows": 7, "row_id": 7, "text": "the fourth text is in the manifest only"},
    ]
}
REPORTED = {
    "conclusions": [["76.1%", "is its accuracy where it is worst: [/b] | x", "slices"]],
    "notes": ["9 rows are left out"],
}
TRAINED = {"counts": {"epochs": 2, "rows": 10}, "seconds": 0.1}
SCORED = {
    "counts": {"accepted": 9},
    "seconds": 0.1,
    "inputs": {"model": {"fingerprint": "mine"}},
}
FIGURES = {"accuracy": 0.77, "accuracy_low": 0.74, "accuracy_high": 0.8, "num_rows": 1011}
CONCLUSIONS = [
    ("77.0%", "of 1,011 test texts are labelled correctly", "figures"),
    ("74.8%", "is the accuracy of TF-IDF with logistic regression", "figures"),
    ("6.3%", "of the labels may be wrong", "mistakes"),
]
EVALUATED = {
    "figures": {"test": FIGURES},
    "conclusions": CONCLUSIONS,
    "counts": {"rows": 10},
    "registered": {"name": "mine", "version": 1},
    "seconds": 0.1,
}
BY_CLASS = {
    "joy": {"f1": 0.9, "num_rows": 600},
    "anger": {"f1": 0.5, "num_rows": 30},
    "mixed": {"f1": 0.0, "num_rows": 3},
    "fear": {"f1": None, "num_rows": 0},
    "2": {"f1": 0.0, "num_rows": 1},
}
OF_CLASSES = EVALUATED | {
    "figures": {"test": FIGURES | {"f1_macro": 0.7} | {"by_class": BY_CLASS}},
    "conclusions": [CONCLUSIONS[0], ("70.0%", "is the macro F1", "figures"), *CONCLUSIONS[1:]],
}
UNREGISTERED = EVALUATED | {
    "registered": None,
    "run": {"registers_model": True},
    "not_registered": "cannot reach the MLflow store http://h:5000: Connection refused; to "
    "register it later: sentiflow tracking import 'my run'",
}
RUN = {"prepare": PREPARED, "train": TRAINED, "score": SCORED, "evaluate": EVALUATED}
REFIT = {"prepare": PREPARED, "train": TRAINED, "score": SCORED}
AVERAGE = {"prepare": PREPARED, "score": SCORED, "evaluate": EVALUATED}


def render(verb, records, *, ran=True):
    """Render the end of a job, without the path of the program."""
    outcomes = [Outcome(stage, f"my run/{stage}", one, ran=ran) for stage, one in records.items()]
    return re.sub(r"\S+/sentiflow ", "sentiflow ", jobs.render(verb, outcomes, Path("a.yaml")))


@pytest.mark.parametrize(
    ("case", "verb", "records"),
    [
        ("prepare", "prepare", {"prepare": PREPARED}),
        (
            "prepare_everything",
            "prepare",
            {"prepare": PREPARED | MOST_REPEATED | {"counts": PREPARED["counts"] | EVERYTHING}},
        ),
        ("evaluate", "evaluate", {"evaluate": REPORTED}),
        ("trends", "trends", {"trends": REPORTED}),
        ("score", "score", {"score": SCORED}),
        ("run", "run", RUN),
        ("run_of_classes", "run", RUN | {"evaluate": OF_CLASSES}),
        ("run_unregistered", "run", RUN | {"evaluate": EVALUATED | {"registered": None}}),
        ("run_without_store", "run", RUN | {"evaluate": UNREGISTERED}),
        (
            "run_of_single_stages",
            "run",
            RUN | {"evaluate": EVALUATED | {"registered": None, "run": {"registers_model": False}}},
        ),
        ("run_of_a_refit", "run", REFIT),
        ("run_of_an_average", "run", AVERAGE),
    ],
)
def test_the_end_of_a_job_shows_its_results_and_the_next_step(case, verb, records):
    assert f"{render(verb, records)}\n" == (GOLDEN / f"{case}.txt").read_text()


def test_a_report_in_an_object_store_is_fetched_by_a_command():
    outcomes = [Outcome(stage, f"s3://b/run/{stage}", one, ran=True) for stage, one in RUN.items()]
    text = jobs.render("run", outcomes, Path("a.yaml"))
    assert "open the report" not in text
    code = 'import sentiflow; print(sentiflow.Evaluated.load("s3://b/run/evaluate").report.read())'
    assert f"  fetch the report    python -c '{code}' > report.html\n" in text


def test_a_repeated_run_names_no_command_that_does_not_read_runs():
    outcomes = [Outcome(stage, f"again/{stage}", one, ran=True) for stage, one in RUN.items()]
    text = jobs.render("run", outcomes, Path("runs:/0f"))
    assert f"  compare runs        {jobs.write_command('ui')}\n" in text
    champion = r"  make it champion +\S*sentiflow promote with the settings file of the run\n"
    assert re.search(champion, text)


def test_a_run_that_was_complete_says_so():
    line = "Everything was complete already; nothing was repeated."
    results, next_steps = (GOLDEN / "run.txt").read_text().rstrip("\n").split("\n\nNext:\n")
    assert render("run", RUN, ran=False) == f"{results}\n\n{line}\n\nNext:\n{next_steps}"


def test_a_job_without_results_to_show_says_nothing():
    assert render("train", {"train": TRAINED}) == ""
    assert render("score", {"score": SCORED | {"counts": {"accepted": 0}}}) == ""


def write_corpus(folder):
    """Write a corpus of two classes and a config; return its settings."""
    names = ("bad", "good")
    rows = [f"so {names[n % 2]} {n},{names[n % 2]}\n" for n in range(400)]
    (folder / "reviews.csv").write_text("text,label\n" + "".join(rows))
    return {
        "name": "reviews",
        "output_uri": str(folder / "run"),
        "format": {
            "kind": "csv",
            "columns": {"text": "text", "label": "label"},
            "labels": {"bad": "bad", "good": "good"},
        },
        "prepare": {"csv": str(folder / "reviews.csv"), "vocabulary": {"min_count": 1}},
        "train": {
            "model": {"hidden_size": 4},
            "num_epochs": 1,
            "batching": {"num_shards": 1},
        },
        "tracking": {"uri": None},
    }


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("verb", ["prepare", "run"])
def test_a_job_with_corrections_ends_with_their_number(verb, tmp_path, resources):
    raw = write_corpus(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    fixes = tmp_path / "fixes.csv"
    fixes.write_text("text,label\nso good 1,bad\nso bad 2,bad\nnot in the corpus,bad\n")
    config = str(tmp_path / "config.yaml")
    result = CliRunner().invoke(app, [verb, config, f"prepare.corrections={fixes}"])
    assert result.exit_code == 0, result.output
    expected = r"^corrected +2  rows, by the 3 labels of prepare\.corrections$"
    assert bool(re.search(expected, result.stdout, re.M)) == (verb == "prepare")
