"""The lines at the end of a job say what is in its manifest."""

import re
from pathlib import Path

import pytest

from sentiflow.cli import jobs, terminal
from sentiflow.pipeline.stages import Outcome

SPLITS = ("train", "validation", "test")


def manifest_of_preparation(**counts):
    """Make the manifest of a preparation of 10 rows, as far as it is summed up."""
    labels = {"negative": 2, "positive": 1, "neutral": 0, "unlabelled": 0}
    return {
        "counts": {
            "rows_read": 12_345,
            "accepted": 9,
            "rejected": 0,
            "rejected_by_reason": {},
            "left_out": 0,
            "left_out_by_reason": {},
            "labels": dict.fromkeys(SPLITS, labels),
        }
        | counts,
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
    }


def render(verb, record, uri):
    """Summarize a stage as after its command."""
    outcome = Outcome(verb, uri, record, ran=True)
    return jobs.render(verb, [outcome], Path("a.yaml"))


def lines_of(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def lines_of_preparation(**counts):
    return lines_of(render("prepare", manifest_of_preparation(**counts), "run/prepared"))


def test_rows_are_written_in_columns_with_the_numbers_on_the_right():
    rows = "  accepted | 9 |\n\nunknown [b] | 12,345 | many words | on a line"
    assert terminal.columns(rows, "<><").splitlines() == [
        "  accepted        9",
        "unknown [b]  12,345  many words | on a line",
    ]


def test_a_preparation_is_summed_up():
    assert lines_of_preparation() == [
        "rows read 12,345",
        "accepted 9",
        "rejected 0",
        "train 3 2 negative, 1 positive",
        "validation 3 2 negative, 1 positive",
        "test 3 2 negative, 1 positive",
        "repeated rows 4 3 test rows have a text of train",
        "contradicting 2 texts with more than one label",
        "words 70 60 with a vector; 4.6% of test tokens unknown",
    ]


def test_unlabelled_texts_are_summed_up_below():
    texts = {
        "rows_read": 1_200,
        "accepted": 1_000,
        "rejected": 50,
        "rejected_by_reason": {"empty text": 50},
        "left_out": 150,
        "left_out_by_reason": {"held_out": 150},
        "tokens": {"unknown_fraction": 0.2418},
    }
    assert lines_of_preparation(unlabelled=texts)[9:] == [
        "unlabelled texts 1,200",
        "accepted 1,000",
        "rejected 50 run/prepared/rejected: 50 empty text",
        "left out 150 150 held_out",
        "unknown 24.2% of their tokens",
    ]


def test_refused_and_left_out_rows_are_listed_by_reason_the_most_frequent_first():
    lines = lines_of_preparation(
        rejected=7,
        rejected_by_reason={"empty text": 2, "unknown label": 5},
        left_out=1,
        left_out_by_reason={"repeated": 1},
    )
    assert lines[1] == "accepted 9"
    assert lines[2] == "rejected 7 run/prepared/rejected: 5 unknown label, 2 empty text"
    assert lines[3] == "left out 1 1 repeated"


def test_an_evaluation_is_summed_up_by_its_conclusions_and_notes():
    record = {
        "conclusions": [["76.1%", "is its accuracy where it is worst: [/b] | x", "slices"]],
        "notes": ["9 rows are left out"],
    }
    assert lines_of(render("evaluate", record, "runs/[a]/report")) == [
        "76.1% is its accuracy where it is worst: [/b] | x",
        "note 9 rows are left out",
        "report runs/[a]/report/report.html",
        "model card runs/[a]/report/model_card.md",
    ]
    assert lines_of(render("trends", record, "t"))[2:] == [
        "page t/trends.html",
        "table t/trends.parquet",
    ]


def test_after_scoring_the_next_step_reads_the_predictions():
    record = {"counts": {"accepted": 9}}
    expected = 'Next:\n  read predictions    pandas.read_parquet("s/predictions")'
    assert render("score", record, "s") == expected
    assert render("score", {"counts": {"accepted": 0}}, "s") == ""
    assert render("train", {}, "t") == ""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Summarize a whole run, without the stages that are left out."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    figures = {"accuracy": 0.77, "accuracy_low": 0.74, "accuracy_high": 0.8, "num_rows": 1011}
    counts = {"epochs": 2, "rows": 10, "accepted": 9}
    conclusions = [
        ["77.0%", "of 1,011 test texts are labelled correctly", "figures"],
        ["74.8%", "is the accuracy of TF-IDF with logistic regression", "figures"],
        ["6.3%", "of the labels may be wrong", "mistakes"],
    ]
    evaluated = {"figures": {"test": figures}, "conclusions": conclusions, "counts": counts}
    records = {
        "prepare": manifest_of_preparation() | {"seconds": 0.1},
        "train": {"counts": counts, "seconds": 0.1},
        "score": {"counts": counts, "seconds": 0.1, "inputs": {"model": {"fingerprint": "mine"}}},
        "evaluate": evaluated | {"seconds": 0.1},
    }

    def summarize(*without, ran=True, is_registered=True, **more):
        registered = {"name": "mine", "version": 1} if is_registered else None
        changed = {"figures": {"test": figures | more}, "registered": registered}
        record = records | {"evaluate": records["evaluate"] | changed}
        outcomes = [
            Outcome(verb, f"my run/{verb}", one, ran=ran)
            for verb, one in record.items()
            if verb not in without
        ]
        return jobs.render("run", outcomes, Path("a.yaml"))

    return summarize


def test_a_run_is_summed_up_with_the_next_steps(run):
    found = re.sub(r"\S+/sentiflow ", "sentiflow ", run())
    assert (
        found
        == """
rows read               12,345
  accepted                   9
  rejected                   0
test accuracy            77.0%  95 % interval 74.0% to 80.0%, 1,011 texts
                         74.8%  is the accuracy of TF-IDF with logistic regression
prepare        123,450 texts/s  0.1 s
train              200 texts/s  0.1 s
score               90 texts/s  0.1 s
evaluate           100 texts/s  0.1 s

Next:
  open the report     my run/evaluate/report.html
  compare runs        sentiflow ui a.yaml
  make it champion    sentiflow promote a.yaml
  score a text        sentiflow predict 'my run/train/model' "what a lovely day"
  read predictions    pandas.read_parquet("my run/score/predictions")"""
    )


def test_a_run_of_other_classes_shows_the_f1_of_each(run):
    by_class = {"joy": {"f1": 0.9}, "anger": {"f1": 0.5}, "fear": {"f1": None}}
    lines = lines_of(run(by_class=by_class, f1_macro=0.7))
    assert [line for line in lines if line not in lines_of(run())] == [
        "macro F1 70.0% F1 90.0% joy, 50.0% anger"
    ]


def test_a_refit_is_summed_up_without_an_evaluation_and_an_average_without_a_training(run):
    refit = lines_of(run("evaluate"))
    assert not any(line.startswith(("test", "evaluate", "open")) for line in refit)
    assert any(re.fullmatch("write its card .*sentiflow card 'my run/train'", x) for x in refit)
    average = lines_of(run("train"))
    assert any("predict 'my run/score/model'" in line for line in average)


def test_a_model_that_is_not_registered_cannot_be_promoted(run):
    lines = lines_of(run(is_registered=False))
    (line,) = (line for line in lines if line.startswith("make it champion"))
    assert line.startswith("make it champion not registered")


def test_a_run_that_was_complete_says_so(run):
    assert "\n\nEverything was complete already; nothing was repeated.\n\nNext:\n" in run(ran=False)


def test_of_many_classes_the_lowest_ten_are_listed_and_the_others_counted():
    labels = {f"topic {number}": number for number in range(77, 0, -1)}
    lines = lines_of_preparation(labels=dict.fromkeys(SPLITS, labels))
    (train,) = (line for line in lines if line.startswith("train"))
    assert train.startswith("train 3,003 the lowest of 77: 1 topic 1, 2 topic 2, ")
    assert train.endswith(", 10 topic 10, … 67 more in the manifest")
