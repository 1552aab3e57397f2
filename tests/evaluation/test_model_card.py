"""A model card says what was measured, and gives nothing away."""

import dataclasses
import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from markdown_it import MarkdownIt
from stages import publish
from test_report import Outline, change, report_data, rows_of, write
from test_report_of_classes import rows_of_classes
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.data import lineage, manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.evaluation import model_card
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.other_models import Baseline

SETTINGS = {
    "model": {"cell": "gru", "hidden_size": 32},
    "tokenizer": "tweet",
    "vocabulary_size": 1234,
    "max_length": 20,
}
SPLITS = ("train", "validation", "test")
HOSTILE = ["a|b", "<script>alert(1)</script>", "x\n---\n# y: [", "[l](http://e.org) *b* `c` &lt;"]
THREE = ["negative", "positive", "neutral"]


def model_of(
    folder,
    *,
    classes=("negative", "positive"),
    files=("tweets.csv",),
    unlabelled=(),
    num_pretraining=0,
):
    """Publish the training of a model of three texts; return the model as an input."""
    sources = {
        name: {
            "fingerprint": "c5",
            "files": [
                {"uri": f"{folder}/secret/{file}", "bytes": 1, "modified_ns": 1, "tree_sha256": ""}
                for file in named
            ],
        }
        for name, named in (("csv", files), ("unlabelled", unlabelled))
        if named
    }
    counts = {
        "rows_read": 1500, "accepted": 1400, "rejected": 90, "left_out": 10,
        "rejected_by_reason": {"empty text": 80, "unknown label": 10},
        "left_out_by_reason": {"repeated": 10},
        "labels": {
            split: dict.fromkeys(classes, 3) | {"unlabelled": 0} for split in SPLITS
        },
        "unlabelled": {"accepted": 56_732},
    }  # fmt: skip
    spec = OutputSpec("prepare", f"{folder}/prepared", {"split": {"kind": "hash"}}, sources)
    texts = {"repeated_texts": 0, "surplus_rows": 0, "within": {}}
    repeats = {
        "rows": {},
        "normalized": texts | {"leaked_rows": {"test_in_train": 7}},
        "contradicting": {"texts": 21, "rows": {}},
        "dropped": {},
    }
    prepared = publish(spec, counts=counts, duplicates=repeats, fixed_splits=[])
    settings = {"num_epochs": 5, "seed": 3, "class_weights": "sqrt"}
    settings["pretrain"] = {"num_epochs": num_pretraining}
    inputs = {"prepared": manifest.reference(f"{folder}/prepared", prepared)}
    run = {
        "experiment": "tickets", "group": "0123abcd", "name": "train", "start": "", "end": "",
        "params": {}, "metrics": {}, "tags": {"mlflow.source.git.commit": "ab" * 20},
        "artifacts": [], "registers_model": False, "mlflow_run_id": "",
    }  # fmt: skip
    trained = publish(
        OutputSpec("train", f"{folder}/trained", settings, inputs),
        counts={"rows": 1200, "epochs": 5, "parameters": 51_000}, seconds=61.7, chosen_epoch=4,
        model_fingerprint="f1", num_workers=2, device="cpu", precision="fp32", run=run,
    )  # fmt: skip
    return {
        "uri": f"{folder}/trained/model",
        "fingerprint": "f1",
        "settings": SETTINGS | {"classes": list(classes)},
        "training": {"uri": f"{folder}/trained", "fingerprint": trained["fingerprint"]},
    }


def metadata_of(card):
    """Read the metadata as the Hub does: what stands between the first two lines of dashes."""
    found = re.match(r"---\r?\n([\s\S]*?)\r?\n---\r?\n", card)
    return yaml.safe_load(found[1])


def html_of(card):
    """Render the text below the metadata."""
    below = re.sub(r"\A---\n[\s\S]*?\n---\n", "", card)
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(below)


def tables_of(card):
    """Read the cells of each table of the card, as they are shown, by row."""
    found = []
    for table in re.findall(r"<table>.*?</table>", html_of(card), re.DOTALL):
        rows = re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
        found.append(
            [
                [Outline(c).text.strip() for c in re.findall(r"<t[hd].*?>.*?</t[hd]>", row)]
                for row in rows
            ]
        )
    return found


def table_of(card, title):
    """Find the table whose first column has this title; return its rows by their first cell."""
    (rows,) = [rows for rows in tables_of(card) if rows[0][0] == title]
    return {row[0]: row[1:] for row in rows}


@pytest.fixture(scope="module")
def result():
    """The evaluation of a model of two classes."""
    rows = pa.concat_tables([rows_of("validation", 300, seed=1), rows_of("test", 600, seed=2)])
    return report_data(rows).result


@pytest.fixture(scope="module")
def card(result, tmp_path_factory):
    model = model_of(tmp_path_factory.mktemp("home"))
    return model_card.render(model, result, corpus="tweets.csv")


def test_the_metadata_are_those_of_any_model(card):
    found = metadata_of(card)
    assert (found["library_name"], found["pipeline_tag"]) == ("sentiflow", "text-classification")
    assert not {"license", "language"} & set(found), "the user knows them"


def test_the_figures_are_those_of_the_evaluation(card, result):
    metrics, intervals = result.measured.metrics, result.measured.intervals["test"]
    shown = table_of(card, "metric")
    name, share = result.measured.metrics.most_frequent
    assert shown["metric"] == ["this model", "95% interval", f"“{name}” for every text"]
    low, high = metrics.accuracy_low, metrics.accuracy_high
    assert shown["Accuracy"] == [
        f"{metrics.accuracy:.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{share:.1%}",
    ]
    for title, key in (("Log loss", "log_loss"), ("Brier score", "brier"), ("ROC AUC", "roc_auc")):
        low, high = intervals[key]
        assert shown[title][:2] == [f"{metrics.values[key]:.4f}", f"{low:.4f} to {high:.4f}"]
    classes = table_of(card, "class")
    for name, found in metrics.by_class.items():
        low, high = intervals[f"f1_{name}"]
        expected = {
            "texts": f"{found.num_rows:,}",
            "predicted": f"{found.num_predicted:,}",
            "precision": f"{found.values['precision']:.1%}",
            "recall": f"{found.values['recall']:.1%}",
            "F1": f"{found.f1:.3f}",
            "95% interval of F1": f"{low:.3f} to {high:.3f}",
        }
        cells = dict(zip(classes["class"], classes[name], strict=True))
        assert {title: cells[title] for title in expected} == expected


def test_a_class_that_is_only_predicted_is_named_beside_the_macro_f1(tmp_path):
    rows = rows_of_classes(600, classes=(*THREE, "mixed"))
    rows = rows.filter(pc.not_equal(rows["label"], 3))
    data = report_data(rows, asked=False)
    predicted = predicted_of(data.rows)
    metrics = data.result.measured.metrics
    remark = metrics.f1_macro_remark
    assert remark.startswith(f"without mixed ({metrics.only_predicted['mixed']} predictions, no")
    times = {"name": "TF-IDF", "num_train_rows": 9, "num_train_rows_in_all": 9}
    times |= {"max_train_rows": 9, "c": 1.0, "seconds": 1.0}
    other = Baseline.of(predicted, predicted.label, **times)
    assert other.f1_macro == other.f1_macro_of_labelled == 1
    result = dataclasses.replace(data.result, baselines=[other])
    note = f"W{remark[1:]}. Over the classes in the labels, TF-IDF has 1.0000."
    card = model_card.render(model_of(tmp_path), result, corpus="tweets.csv")
    page = write(change(data, result=result))
    for text in (Outline(html_of(card)).text, Outline(page).text):
        assert note in text
        assert f"; {remark}" in text
    assert "no label" not in model_card.render(
        model_of(tmp_path), report_data(rows_of_classes(600), asked=False).result, corpus="a"
    )


def test_data_and_training_are_those_of_the_manifests(card):
    text = Outline(html_of(card)).text
    assert "1,500 rows were read and 1,400 accepted" in text
    assert "Rejected: 90 (80 empty text, 10 unknown label)." in text
    assert "Left out: 10 (10 repeated)." in text
    splits = table_of(card, "split")
    assert splits["split"] == ["texts", "negative", "positive"]
    assert splits["test"] == ["6", "3 (50.0%)", "3 (50.0%)"]
    assert "7 test texts are in the train split, too" in text
    assert "epoch 4 of 5, 62 seconds on 2 workers (cpu, fp32)" in text
    assert "commit abababababab," in text
    settings = table_of(card, "setting")
    assert list(settings)[1:] == ["train.num_epochs", "train.seed", "train.class_weights"]
    assert settings["train.class_weights"] == ["sqrt"]


def test_hostile_names_break_neither_the_metadata_nor_the_page(tmp_path):
    rows = rows_of_classes(900, classes=tuple(HOSTILE))
    result = report_data(rows, asked=False).result
    files = ["---\nlicense: mit\n---.csv", "[x](e.org)|.csv", "ü\u202e b.parquet"]
    model = model_of(tmp_path, classes=HOSTILE, files=files)
    corpus = lineage.name_files(files)
    card = model_card.render(model, result, corpus=corpus)
    assert "license" not in metadata_of(card)
    html = html_of(card)
    assert not re.search(r"<(script|a|em|code>c|hr)\b", html)
    shown = [" ".join(name.split()) for name in HOSTILE]
    assert list(table_of(card, "class"))[1:] == shown
    assert table_of(card, "split")["split"] == ["texts", *shown]
    assert all(len({len(row) for row in table}) == 1 for table in tables_of(card))
    assert "\u202e" not in card


def test_a_card_names_no_location_and_no_text(card, result, tmp_path):
    assert "secret" not in card
    assert "/" + "tmp" not in card
    failures = [case.text for test in result.checks.behavior for case in test.failures]
    assert failures
    assert not any(text in card for text in failures)


def test_notes_and_reasons_lose_the_directories_in_them(result, tmp_path):
    notes = ["it was trained on rows of /home/ann/secret/a.csv", "s3://secret/team/b.csv is gone"]
    checks = ModelChecks(not_asked="/srv/secret/model has no manifest.json: and/or 1/2 of it")
    changed = dataclasses.replace(result, notes=notes, checks=checks)
    card = model_card.render(model_of(tmp_path), changed, corpus="tweets.csv")
    text = Outline(html_of(card)).text
    assert "It was trained on rows of a.csv." in text
    assert "b.csv is gone." in text
    assert "groups were not tested: model has no manifest.json: and/or 1/2 of it." in text
    assert "secret" not in card


def test_without_an_evaluation_the_validation_metrics_are_there_and_no_results(tmp_path):
    known = {"validation/accuracy": 0.81234, "validation/f1_macro": 0.7, "validation/loss": 0.5}
    card = model_card.render(model_of(tmp_path), None, validation=known)
    assert "No readable evaluation of the model was found" in card
    assert table_of(card, "metric") == {
        "metric": ["validation"], "accuracy": ["0.8123"], "macro F1": ["0.7000"], "loss": ["0.5000"]
    }  # fmt: skip
    assert Outline(html_of(card)).text.split()[0] == "tickets"


def test_without_its_training_a_package_has_a_card(make_package):
    card = model_card.find(make_package())
    assert "The training is gone, was redone or is in the format of an earlier version" in card
    assert "The prepared data are gone, were redone or are in the format of an earlier" in card


def publish_report(uri, fingerprint):
    """Publish an evaluation that has only a card."""
    from sentiflow.storage import filesystem

    files = [filesystem.write_file(uri, "model_card.md", b"card")]
    spec = OutputSpec("evaluate", uri, {}, {}, owns=("model_card.md",))
    publish(spec, files=files, model_fingerprint=fingerprint)


def test_the_card_of_an_evaluation_is_found_from_each_directory_of_its_run(tmp_path, make_package):
    run = tmp_path / "run"
    made = make_package(f"{run}/trained/model")
    publish_report(f"{run}/report", manifest.read(made)["fingerprint"])
    for place in (run, run / "trained", run / "trained/model"):
        assert model_card.find(str(place)) == "card", place


def test_the_evaluation_of_another_model_is_not_taken(tmp_path, make_package):
    run = tmp_path / "run"
    make_package(f"{run}/trained/model")
    publish_report(f"{run}/report", "another")
    assert "No readable evaluation of the model was found" in model_card.find(str(run))


def card_of(*arguments):
    return CliRunner().invoke(app, ["card", *map(str, arguments)])


@pytest.mark.ray
@pytest.mark.slow
def test_the_command_writes_the_card_that_the_evaluation_left(finished_run, tmp_path):
    written = (finished_run / "run/report/model_card.md").read_text()
    assert str(finished_run) not in written
    card = tmp_path / "README.md"
    for options in ([], ["--overwrite"]):
        done = card_of(finished_run / "run", "--output", card, *options)
        assert (done.exit_code, done.stdout) == (0, f"{card}\n"), done.stderr
        assert card.read_text() == written
    again = card_of(finished_run / "run", "--output", card)
    assert again.exit_code == 2
    assert again.stderr == (
        f"sentiflow: --output {card} exists: name another file, or add --overwrite\n"
    )
