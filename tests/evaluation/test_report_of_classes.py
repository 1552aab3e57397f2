"""A model of any classes is measured, and its report shows what there is of it."""
# ruff: noqa: F811 -- fixtures are imported

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from test_report import (  # noqa: F401
    Outline,
    draw,
    page,
    render_page,
    report_data,
    write,
)
from test_report_in_browser import browser, needs_browser, visit  # noqa: F401

from sentiflow.evaluation import highlights, mistakes, model_card, report_charts
from sentiflow.evaluation.cross_validation import CrossValidated
from sentiflow.evaluation.model_checks import ModelChecks

CLASSES = ("negative", "positive", "neutral")
MODEL = {"settings": {"tokenizer": "tweet", "max_length": 64}, "calibration": {"temperature": 1.4}}
WORDS = ("late", "good", "not", "day", "sooo", "@sam", "#now", ":)", ":(", "?", "seat", "again")


def rows_of_classes(num_rows=600, *, classes=CLASSES, split="test", seed=0, names=None):
    """Labelled rows of one split, about three in four of them right; the first class is usual."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(classes) + 1)
    label = rng.choice(len(classes), num_rows, p=share / share.sum()).astype(np.int8)
    logits = rng.normal(0, 1, (num_rows, len(classes)))
    logits[np.arange(num_rows), label] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(num_rows)]
    columns = {
        "row_id": np.arange(num_rows) + 10_000 * seed,
        "split": pa.array([split] * num_rows, pa.string()),
        "label": label,
        "prediction": probabilities.argmax(axis=1).astype(np.int8),
        "num_tokens": rng.integers(0, 9, num_rows).astype(np.int32),
    }
    for code, name in enumerate(names or classes):
        columns[f"probability_{name}"] = probabilities[:, code].astype(np.float32)
    return pa.table(columns | {"text": pa.array(texts, pa.string())})


@pytest.fixture(scope="module")
def rows():
    return pa.concat_tables([rows_of_classes(200, split="validation", seed=1), rows_of_classes()])


@pytest.fixture(scope="module")
def data(rows):
    return report_data(rows, model=MODEL, asked=False)


@pytest.fixture(scope="module")
def plots(data):
    return draw(data)


def test_each_class_is_on_the_page_with_both_shares(data, page):
    text = Outline(page).text
    metrics = data.result.measured.metrics
    for name, found in metrics.by_class.items():
        cells = [
            name,
            f"{found.num_rows:,}",
            f"{found.num_rows / metrics.num_rows:.1%}",
            f"{found.num_predicted:,}",
            f"{found.num_predicted / metrics.num_rows:.1%}",
            f"{found.values['precision']:.1%}",
            f"{found.values['recall']:.1%}",
        ]
        assert " ".join(cells) in text
    for label, counts in metrics.confusion.items():
        listed = [*counts.values(), sum(counts.values())]
        assert " ".join([label, *(f"{count:,}" for count in listed)]) in text


def test_the_confusion_matrix_has_no_shares_of_a_class_without_texts():
    rows = rows_of_classes(600, classes=(*CLASSES, "mixed"))
    whole = report_data(rows, model=MODEL, asked=False)
    assert "is empty" not in render_page(whole, {"confusion.png": b""})
    data = report_data(rows.filter(pc.not_equal(rows["label"], 3)), model=MODEL, asked=False)
    page = render_page(data, {"confusion.png": b""})
    assert "The row of a class without labelled texts is empty." in page
    assert '<div class="pair stacked">' in page
    (axes,) = report_charts._draw_confusion(data.result.measured.metrics).axes
    shown = {cell.get_position(): cell.get_text() for cell in axes.texts}
    assert {shown[column, 3] for column in range(4)} == {""}
    assert all(shown[column, 0].endswith("%") for column in range(4))


def test_pairs_of_confused_classes_are_shown_with_examples(data, page):
    text = Outline(page).text.partition("Confused classes")[2]
    confusion = data.result.measured.metrics.confusion
    pairs = data.result.measured.metrics.confused_pairs
    assert [pair.num_texts for pair in pairs] == sorted(
        (confusion[a][b] + confusion[b][a] for a in CLASSES for b in CLASSES if a < b), reverse=True
    )
    places = []
    for pair in pairs:
        for a, b in ((pair.first, pair.second), (pair.second, pair.first)):
            share = confusion[a][b] / sum(confusion[a].values())
            places.append(text.index(f"{a} → {b} {confusion[a][b]:,}, {share:.1%}"))
    assert places == sorted(places)
    shown = data.mistakes.filter(pc.equal(data.mistakes["kind"], "pair")).to_pandas()
    assert shown.groupby(["label", "prediction"]).size().max() <= mistakes.NUM_OF_PAIR
    first = shown.iloc[0]
    assert f"“{first['text']}” {first['confidence']:.3f}" in text


def test_the_page_of_classes_has_no_section_without_content(data, plots, page):
    outline = Outline(page)
    ids = {attributes["id"] for _, attributes in outline.tags if "id" in attributes}
    assert "classes" in ids
    assert not ids & {"behavior", "groups"}
    links = {attributes["href"] for tag, attributes in outline.tags if tag == "a"}
    assert links == {f"#{name}" for name in ids}
    assert set(plots) == {
        "training_curve.png", "confusion.png", "roc.png", "reliability.png", "coverage.png",
    }  # fmt: skip
    alts = [attributes["alt"] for tag, attributes in outline.tags if tag == "img"]
    assert all(re.search(r"\d", alt) and alt.endswith(".") for alt in alts)


@pytest.mark.parametrize("num_classes", [2, 12])
def test_any_number_of_classes_with_any_names_is_reported(num_classes, monkeypatch):
    monkeypatch.setattr(report_charts, "to_png", lambda figure: b"")
    names = [f"<b>{{class}} % {k}" for k in range(num_classes)]
    data = report_data(rows_of_classes(400, classes=names), model=MODEL, asked=False)
    assert data.result.measured.classes == names
    assert not data.result.measured.metrics.is_binary
    page = render_page(data, draw(data))
    assert "{class} % 1" in Outline(page).text
    assert "<b>{class}" not in page


def test_of_many_classes_the_worst_are_named_first():
    names = [f"topic_{k}" for k in range(30)]
    data = report_data(rows_of_classes(1800, classes=names), model=MODEL, asked=False)
    metrics = data.result.measured.metrics
    num_small = sum(of_class.is_small for of_class in metrics.by_class.values())
    assert 0 < num_small < 30
    order = [metrics.by_class[name].is_small for name in metrics.worst_first]
    assert order == [False] * (30 - num_small) + [True] * num_small
    f1 = {name: metrics.by_class[name].f1 for name in metrics.worst_first}
    large = list(f1.values())[: 30 - num_small]
    assert large == sorted(large)
    plots = draw(data)
    outline = Outline(render_page(data, plots))
    summary, _, table = outline.text.partition("Summary")[2].partition("Metrics")
    worst = list(f1)[:3]
    classes = f"{30 - num_small} classes of 30 texts or more"
    assert f"is the lowest F1 of {classes}: “{worst[0]}” {f1[worst[0]]:.3f} (" in summary
    assert "fewer than 30 texts, in gray, are too uncertain" in table
    assert [a.get("class") for t, a in outline.tags if t == "tr"].count("few") >= num_small
    most = metrics.confused_pairs[0]
    assert f"{most.num_texts} mistakes are between" in summary
    assert f"“{most.first}” and “{most.second}” ({most.num_texts})" in summary
    places = [table.index(f"{name} {metrics.by_class[name].num_rows}") for name in f1]
    assert places == sorted(places)
    assert outline.text.count(" → ") < 200
    roc = next(a["alt"] for t, a in outline.tags if t == "img" and "ROC" in a["alt"])
    assert roc.count("topic_") == 10


@pytest.mark.soak
@needs_browser
def test_a_page_of_77_classes_is_below_9000_pixels(visit):
    names = [f"a_rather_long_name_of_class_{k}" for k in range(77)]
    data = report_data(rows_of_classes(1000, classes=names), model=MODEL, asked=False)
    tab = visit(render_page(data, draw(data)))
    tab.set_viewport_size({"width": 1300, "height": 900})
    assert tab.evaluate("document.documentElement.scrollHeight") < 9000


@pytest.mark.soak
@needs_browser
@pytest.mark.parametrize("num_classes", [3, 12, 77])
def test_a_page_of_classes_fits_a_phone_and_a_laptop(visit, num_classes):
    names = [*CLASSES, *(f"a rather long name of class {k}" for k in range(74))]
    names = tuple(names[:num_classes])
    page = write(report_data(rows_of_classes(300, classes=names), model=MODEL, asked=False))
    tab = visit(page)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    for width in (400, 1400):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.problems == []


def test_a_missing_interval_says_why(rows):
    kept = rows.filter(pc.and_(pc.not_equal(rows["label"], 2), pc.not_equal(rows["prediction"], 2)))
    data = report_data(kept, model=MODEL, asked=False)
    why = "1 of 3 classes has fewer than 2 labelled texts"
    assert data.result.measured.no_intervals["test"]["f1_macro"] == why
    text = Outline(write(data)).text
    assert f"(no interval: {why})" in text.partition("Summary")[0]
    assert f"no interval: {why}" in text.partition("Macro F1")[2][:140]
    assert any(why in line.meaning for line in data.result.highlights)
    listed = model_card._list_metrics(data.result.measured)
    shown = {metric.name: interval for metric, _, interval in listed}
    assert shown["f1_macro"] == f"no interval: {why}"
    assert " to " in shown["log_loss"]


def test_a_model_that_is_not_shown_to_beat_guessing_is_told_so(rows):
    most = pa.array(np.full(len(rows), np.bincount(rows["label"]).argmax(), np.int8))
    place = rows.column_names.index("prediction")
    guessing = report_data(rows.set_column(place, "prediction", most), model=MODEL, asked=False)
    share = guessing.result.measured.metrics.most_frequent.share
    said = [line for line in guessing.result.highlights if "than guessing" in line.meaning]
    assert [(line.number, line.section) for line in said] == [(f"{share:.1%}", "figures")]
    assert said[0].meaning.endswith("not shown to be better than guessing")
    able = report_data(rows, model=MODEL, asked=False).result
    assert not any("than guessing" in line.meaning for line in able.highlights)
    folds = CrossValidated(able.measured.metrics, [0.6, 0.7], [])
    said = highlights.summarize(guessing.result.measured, ModelChecks(), folds=folds)
    assert not any("than guessing" in line.meaning for line in said), "more rows have told"


def test_numbers_that_are_classes_are_set_apart_on_page_and_card():
    rows = rows_of_classes(classes=("1", "5", "10"))
    data = report_data(rows, model=MODEL, asked=False)
    shown = Outline(render_page(data, draw(data)))
    assert "Label predicted “1” predicted “5” predicted “10” all" in shown.text
    assert re.search(r"“(1|5|10)” → “(1|5|10)”", shown.text)
    assert "Behavior and the treatment of groups were not tested: the model is gone." in shown.text
    assert "Behavior tests" not in shown.text
