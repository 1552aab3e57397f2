"""A report of part of the data leaves out what is not there, and says why."""
# ruff: noqa: F811 -- fixtures are imported

import dataclasses

import numpy as np
import pyarrow as pa
from test_report import (  # noqa: F401
    ALL_PLOTS,
    Outline,
    data,
    draw,
    probed_anew,
    report_data,
    rows,
    rows_of,
    write,
)

from sentiflow.evaluation import charts
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.report import render_page


def test_the_page_says_why_a_model_was_not_tested(data):
    result = dataclasses.replace(data.result, probed=ModelChecks(not_asked="the model is gone"))
    text = Outline(write(dataclasses.replace(data, result=result))).text
    assert text.count("The model was not tested: the model is gone.") == 2


def test_without_texts_the_page_says_how_to_keep_them(rows, monkeypatch):
    monkeypatch.setattr(charts, "to_png", lambda figure: b"")  # drawing takes a second
    data = report_data(rows.drop_columns("text"))
    assert set(draw(data)) == ALL_PLOTS
    text = Outline(render_page(data, {})).text
    assert "score.keep_columns: [text]" in text
    assert "Mistakes worth reading" not in text


def test_three_labels_are_shown_where_some_are_neutral(rows):
    label = rows["label"].to_numpy().copy()
    label[::5] = 2
    data = report_data(rows.set_column(2, "label", pa.array(label)))
    text = Outline(write(data)).text
    three = data.result.measured.three_class["test"]
    assert "Three labels, test" in text
    assert f"{three.accuracy:.1%} of {three.num_rows:,} texts are labelled correctly" in text
    assert "120 neutral texts are not counted here" in text


def test_a_corpus_without_splits_is_called_no_split():
    text = Outline(write(report_data(rows_of("all", 300)))).text
    assert "of the texts correctly" in text
    assert "the all texts" not in text
    assert "Groups of texts with something in common" in text


def test_one_class_leaves_out_what_needs_two(rows, monkeypatch):
    monkeypatch.setattr(charts, "to_png", lambda figure: b"")
    positive = rows.filter(pa.compute.equal(rows["label"], 1))
    data = report_data(positive)
    plots = draw(data)
    assert set(plots) == ALL_PLOTS - {"roc.png", "precision_recall.png"}
    text = Outline(render_page(data, dict.fromkeys(plots, b""))).text
    assert "need both labels" in text
    assert "ranks above the others —" in text


def test_a_training_without_validation_rows_is_reported(data):
    curve = data.curve.copy()
    curve[["validation_loss", "validation_accuracy"]] = np.nan
    page = write(dataclasses.replace(data, curve=curve))
    assert "3 0.3500 — —" in Outline(page).text
    assert "nan" not in page.partition('id="training"')[2]
