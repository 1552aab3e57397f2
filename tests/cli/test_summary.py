"""The lines at the end of a job say what is in its manifest."""

from pathlib import Path

from sentiflow.cli import summary

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
    }


def lines_of(rows):
    return [" ".join(" ".join(row).split()) for row in rows]


def test_rows_are_written_in_columns_with_the_numbers_on_the_right(monkeypatch):
    monkeypatch.setenv("COLUMNS", "32")
    rows = [("accepted", "9", ""), ("unknown [b]", "12,345", "many words on a line")]
    assert summary.to_text(rows).splitlines() == [
        "accepted          9",
        "unknown [b]  12,345  many words",
        "                     on a line",
    ]


def test_a_preparation_is_summed_up():
    assert lines_of(summary.of_preparation(manifest_of_preparation(), "run/prepared")) == [
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
    manifest = manifest_of_preparation(unlabelled=texts)
    assert lines_of(summary.of_preparation(manifest, "run/prepared"))[9:] == [
        "unlabelled texts 1,200",
        "accepted 1,000",
        "rejected 50 run/prepared/rejected: 50 empty text",
        "left out 150 150 held_out",
        "unknown 24.2% of their tokens",
    ]


def test_refused_and_left_out_rows_are_listed_by_reason_the_most_frequent_first():
    record = manifest_of_preparation(
        rejected=7,
        rejected_by_reason={"empty text": 2, "unknown label": 5},
        left_out=1,
        left_out_by_reason={"repeated": 1},
    )
    lines = lines_of(summary.of_preparation(record, "run/prepared"))
    assert lines[1] == "accepted 9"
    assert lines[2] == "rejected 7 run/prepared/rejected: 5 unknown label, 2 empty text"
    assert lines[3] == "left out 1 1 repeated"


def test_after_a_run_the_next_steps_name_its_results():
    uris = {"train": "my run/trained", "score": "run/scored", "evaluate": "run/report"}
    page = "/#/experiments/1/runs"
    found = summary.next_steps(uris, "http://mlflow:5000", page, config=Path("a.yaml"))
    report, compare, promote, score, predictions = found
    assert promote.endswith("sentiflow promote a.yaml")
    assert report.endswith("run/report/report.html")
    assert compare.endswith("  http://mlflow:5000/#/experiments/1/runs")
    assert "predict 'my run/trained/model'" in score
    assert predictions.endswith('  pandas.read_parquet("run/scored/predictions")')
    in_a_file = summary.next_steps(uris, "sqlite:////x/mlflow.db", page, config=Path("a.yaml"))
    assert in_a_file[1].endswith("sentiflow ui a.yaml")


def test_an_evaluation_is_summed_up_by_its_conclusions_and_notes():
    record = {
        "conclusions": [["76.1%", "is its accuracy where it is worst: [/b]", "slices"]],
        "notes": ["9 rows are left out"],
    }
    assert lines_of(summary.of_evaluation(record, "runs/[a]/report")) == [
        "76.1% is its accuracy where it is worst: [/b]",
        "note 9 rows are left out",
        "report runs/[a]/report/report.html",
        "model card runs/[a]/report/model_card.md",
    ]


def test_a_run_of_other_classes_shows_the_f1_of_each():
    figures = {"accuracy": 0.77, "accuracy_low": 0.74, "accuracy_high": 0.8, "num_rows": 1011}
    by_class = {"joy": {"f1": 0.9}, "anger": {"f1": 0.5}, "fear": {"f1": None}}
    counts = {"epochs": 2, "rows": 10, "accepted": 9}
    records = {
        "prepare": manifest_of_preparation() | {"seconds": 1},
        "train": {"counts": counts, "seconds": 1},
        "score": {"counts": counts, "seconds": 1},
        "evaluate": {
            "figures": {"test": figures},
            "counts": counts,
            "seconds": 1,
        },
    }
    binary = lines_of(summary.of_run(records, {"prepare": "run/prepared"}))
    figures |= {"by_class": by_class, "f1_macro": 0.7}
    lines = lines_of(summary.of_run(records, {"prepare": "run/prepared"}))
    assert [line for line in lines if line not in binary] == [
        "macro F1 70.0% F1 90.0% joy, 50.0% anger"
    ]


def test_texts_with_invalid_bytes_are_counted():
    record = manifest_of_preparation(damaged=1204)
    lines = lines_of(summary.of_preparation(record, "run/prepared"))
    assert lines[1] == "accepted 9 1,204 texts have U+FFFD for bytes that are not in the encoding"
    record = manifest_of_preparation(accepted=9000, damaged=15)
    assert lines_of(summary.of_preparation(record, "run/prepared"))[1] == "accepted 9,000"
