"""The page shows what was measured, needs nothing but itself, and is readable everywhere."""

import dataclasses
import functools
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace

import described
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sentiflow.data.schema import BINARY
from sentiflow.evaluation import (
    deciding_words,
    highlights,
    measurements,
    mistakes,
    report,
    report_charts,
)
from sentiflow.evaluation.behavior import Failure, check_behavior
from sentiflow.evaluation.deciding_words import DecidingWords, WordsOfClasses
from sentiflow.evaluation.group_bias import measure_group_bias
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.origin import Origin
from sentiflow.evaluation.report_charts import render as render_charts
from sentiflow.evaluation.result import EvaluationResult
from sentiflow.metrics.registry import CLASS_METRICS, METRICS
from sentiflow.models.explanations import Explanation, WordPart

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

ALL_PLOTS = {
    "training_curve.png",
    "confusion.png",
    "roc.png",
    "reliability.png",
    "coverage.png",
}

SCRIPT = "<script>document.title = 'ran'</script>"

WORDS = ("good", "bad", "not", "day", "sooo", "@sam", "#now", ":)", "?", "rain", "home", "again")

MODEL = {
    "settings": {
        "tokenizer": "tweet",
        "max_length": 64,
        "unsure": {"max_error": 0.05, "threshold": 0.8},
    },
    "calibration": {"temperature": 1.5},
}


def rows_of(split, num_rows, *, seed=0, positive_fraction=0.5):
    """Labelled rows of one split, about four in five of them right."""
    rng = np.random.default_rng(seed)
    label = (rng.random(num_rows) < positive_fraction).astype(np.int8)
    probability = 1 / (1 + np.exp(-rng.normal(2.0 * (2 * label - 1), 2)))
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(num_rows)]
    return pa.table(
        {
            "row_id": np.arange(num_rows) + 10_000 * seed,
            "split": pa.array([split] * num_rows, pa.string()),
            "label": label,
            "prediction": (probability >= 0.5).astype(np.int8),
            "probability_negative": (1 - probability).astype(np.float32),
            "probability_positive": probability.astype(np.float32),
            "num_tokens": rng.integers(0, 9, num_rows).astype(np.int32),
            "text": pa.array(texts, pa.string()),
            "unsure": np.maximum(probability, 1 - probability) <= 0.8,
        }
    )


def answer(texts):
    """Answer as a model does that knows five words, and one group less than the others."""
    return np.array(
        [
            0.5
            + 0.1 * (("good" in t) + ("love" in t) - ("bad" in t) - ("hate" in t))
            - 0.05 * ("elderly" in t)
            for t in texts
        ]
    )


def report_data(rows, *, model=MODEL, asked=True, **changes):
    """A report on ``rows`` with three epochs, two of every list, and ``changes``."""
    patterns = {"weather": "rain"}
    by_split, sample = described.describe(rows, model["settings"], patterns=patterns)
    measured = measurements.measure(by_split, sample, model=model, patterns=patterns)
    checks = ModelChecks(not_asked="the model is gone")
    if asked:
        groups, _ = measure_group_bias(answer, knows=lambda term: term != "Sikh")
        texts = ["a good day", "bad rain"]
        checks = ModelChecks(check_behavior(answer, texts=texts), groups)
    lines = highlights.summarize(measured, checks)
    result = EvaluationResult(
        name="quickstart",
        measured=measured,
        checks=checks,
        is_unseen=True,
        notes=["9 rows are left out"],
        highlights=lines,
        no_baseline="there are no texts",
    )
    table = mistakes.COLUMNS.empty_table()
    if "text" in rows.column_names:
        table = described.find_mistakes(rows)
    data = SimpleNamespace(
        created=datetime(2026, 3, 1, 13, 5, tzinfo=UTC),
        result=result,
        rows=by_split[measured.split],
        mistakes=table,
        num_examples=15,
        words=DecidingWords(deciding_words.NO_WORDS),
        curve=pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "train_loss": [0.61, 0.45, 0.35],
                "validation_loss": [0.52, 0.44, 0.46],
                "validation_accuracy": [0.74, 0.803, 0.796],
            }
        ),
        counts={"read": 1_600_000, "scored_without_a_known_word": 412},
        settings={"train": {"model": {"cell": "gru"}, "num_epochs": 3, "init_from": None}},
        lineage=[("CSV", "/data/tweets.csv", "sha256:ab12"), ("model", "/m", "sha256:cd34")],
        versions={"torch": "2.13.0", "ray": "2.60.0"},
        model="gru(64), bidirectional",
        corpus="tweets.csv",
        logit_shares="network 31%, linear model 69%",
        model_accuracy=0.812,
        most_repeated=[],
    )
    return change(data, **changes)


def change(data, **changes):
    """Change what a report shows."""
    return SimpleNamespace(**{**vars(data), **changes})


def render_page(data, plots):
    """Write the page."""
    shown = dict(vars(data))
    fields = [field.name for field in dataclasses.fields(Origin)]
    origin = Origin(**{name: shown.pop(name) for name in fields})
    return report.render_page(**shown, origin=origin, plots=plots)


def probed_anew(data, **changes):
    """Change what the probing of the model has given."""
    checks = dataclasses.replace(data.result.checks, **changes)
    return change(data, result=dataclasses.replace(data.result, checks=checks))


def draw(data):
    """Draw the plots of a report."""
    return render_charts(data.result.measured, data.rows, data.curve)


@functools.cache
def whole_report():
    """A report with everything in it, of 300 rows of validation and 600 of test; its plots."""
    rows = pa.concat_tables([rows_of("validation", 300, seed=1), rows_of("test", 600, seed=2)])
    data = report_data(rows)
    return rows, data, draw(data)


@pytest.fixture(scope="module")
def rows():
    return whole_report()[0]


@pytest.fixture(scope="module")
def data():
    return whole_report()[1]


@pytest.fixture(scope="module")
def plots():
    return whole_report()[2]


@pytest.fixture(scope="module")
def page(data, plots):
    return render_page(data, plots)


class Outline(HTMLParser):
    """Tags with their attributes in order, and the text of every element but styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        self.texts.append("" if tag == "wbr" else " ")

    def handle_endtag(self, tag):
        self.texts.append(" ")
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text):
        if "style" not in self.open:
            self.texts.append(text)

    @property
    def text(self):
        """What a reader sees, with white space collapsed."""
        return " ".join("".join(self.texts).split())


def write(data):
    """Write the page around images that stand for the plots, which take longer to draw."""
    return render_page(data, dict.fromkeys(ALL_PLOTS, PNG_SIGNATURE))


def test_rendering_twice_gives_the_same_bytes(data, plots, page):
    assert render_page(data, plots) == page


def test_the_headline_is_the_test_accuracy_with_its_interval(data, page):
    metrics = data.result.measured.figures["test"]
    headline = Outline(page).text.partition("Summary")[0]
    assert f"labels {metrics.accuracy:.1%} of the test texts correctly" in headline
    assert f"{metrics.accuracy_low:.1%} to {metrics.accuracy_high:.1%}" in headline
    right = metrics.scalars["true_positive"] + metrics.scalars["true_negative"]
    assert f"label of {right:,} out of 600 positive and negative texts" in headline
    assert "not trained on" in headline


def test_every_metric_of_every_split_is_on_the_page(data, page):
    text = Outline(page).text
    for metrics in (found.scalars for found in data.result.measured.figures.values()):
        for name in ("f1_macro", "matthews", "roc_auc", "average_precision"):
            assert f"{metrics[name]:.4f}" in text, name
        for name in ("f1_positive", "f1_negative", "log_loss", "brier"):
            assert f"{metrics[name]:.4f}" in text, name
        assert f"{metrics['expected_calibration_error']:.4f}" in text
        for name in ("accuracy", "positive_fraction"):
            assert f"{metrics[name]:.1%}" in text, name
        for name in ("precision_positive", "recall_negative"):
            assert f"{metrics[name]:.1%}" in text, name
        predicted = (metrics["true_positive"] + metrics["false_positive"]) / metrics["num_rows"]
        assert f"{predicted:.1%}" in text.partition("Predicted positive")[2][:80]
    for cell in ("true_positive", "false_positive", "true_negative", "false_negative"):
        assert f"{data.result.measured.metrics.scalars[cell]:,}" in text, cell
    forms = {metric.name: metric.form for metric in METRICS}
    for metric in CLASS_METRICS:
        for label in BINARY:
            forms[f"{metric.name}_{label}"] = metric.form
    for name, (low, high) in data.result.measured.intervals["test"].items():
        written = f"{forms[name].format(low)} \u2013 {forms[name].format(high)}"
        assert written in text, name


def test_every_slice_is_on_the_page_worst_first(data, page):
    text = Outline(page).text
    slices = text.partition("Groups of test texts")[2].partition("Mistakes worth reading")[0]
    places = []
    for item in data.result.measured.slices:
        written = f"{item.num_rows:,} {item.accuracy:.1%}"
        assert written in slices, item.name
        places.append(slices.index(written))
    assert places == sorted(places)
    assert "weather matches rain" in slices


def test_the_texts_with_the_most_rows_are_listed_unless_texts_are_hidden(data, plots):
    days = {"first_day": "2026-03-01", "last_day": "2026-03-12"}
    found = [
        {"rows": 1_083, "row_id": 3, "text": "win <b>a prize", "users": 17} | days,
        {"rows": 90, "row_id": 4, "text": "good morning"},
    ]
    repeated = change(data, most_repeated=found)
    page = render_page(repeated, plots)
    assert "<td>1,083</td><td>17</td>" in page
    assert "win &lt;b&gt;a prize" in page
    assert "2026-03-12" in page
    assert "with the same text, before" in page
    settings = {"prepare": {"duplicate_key": "template"}}
    assert "with the same words and numbers" in render_page(
        change(repeated, settings=settings), plots
    )
    assert "good morning" not in render_page(change(repeated, num_examples=0), plots)
    rows_alone = [{"rows": 90, "row_id": 4, "text": "good morning"}]
    assert ">users<" not in render_page(change(data, most_repeated=rows_alone), plots)


def test_slices_found_by_a_search_stand_between_your_own_and_others(data):
    measured = data.result.measured
    assert "Found by a search" not in write(data)
    named = next(item for item in measured.slices if item.name == "question")
    about = {"name": "“<user>” and “hold”", "about": "", "num_rows": 107}
    found = dataclasses.replace(named, is_found=True, **about)
    own = [item for item in measured.slices if item.is_own]
    others = [item for item in measured.slices if not item.is_own]
    measured = dataclasses.replace(measured, slices=[*own, found, *others])
    result = dataclasses.replace(data.result, measured=measured)
    text = Outline(write(change(data, result=result))).text
    groups = text.partition("Groups of test texts")[2].partition("“Gap” is the accuracy minus")
    places = [groups[0].index(title) for title in ("Your own", "Found by a search", "Others")]
    assert places == sorted(places)
    assert "Found by a search, figures of the tested half “<user>” and “hold” 107" in groups[0]
    assert "were searched in one half of the texts" in groups[2]


def test_behavior_and_groups_are_shown_with_what_they_mean(data, page):
    text = Outline(page).text
    checks = data.result.checks
    for test in checks.behavior:
        assert f"{test.name} {test.expectation}" in text
    failing = next(test for test in checks.behavior if test.failures)
    assert failing.failures[0].text in text
    for bias in checks.group_bias:
        assert f"differ by {100 * bias.spread:.1f} points of probability" in text
    assert "made-up sentences" in text
    assert "Not measured: the model does not know all words for Sikh (1 of " in text


def test_links_lead_to_parts_of_the_page_also_without_texts(rows, page):
    bare = report_data(rows.drop_columns("text"))
    for written in (page, render_page(bare, {})):
        tags = Outline(written).tags
        places = {f"#{attributes['id']}" for _, attributes in tags if "id" in attributes}
        assert {attributes["href"] for tag, attributes in tags if tag == "a"} == places


def test_without_texts_the_page_says_how_to_keep_them(rows, monkeypatch):
    monkeypatch.setattr(report_charts, "to_png", lambda figure: b"")  # drawing takes a second
    data = report_data(rows.drop_columns("text"))
    assert set(draw(data)) == ALL_PLOTS
    text = Outline(render_page(data, {})).text
    assert "score.keep_columns: [text]" in text
    assert "Mistakes worth reading" not in text


def test_a_model_that_answers_nothing_says_so(rows):
    all_rows, place = pa.array([True] * len(rows)), rows.column_names.index("unsure")
    nothing = rows.set_column(place, "unsure", all_rows)
    text = Outline(write(report_data(nothing))).text
    assert (
        "100.0% of these texts, including texts without a known word. Nothing is answered" in text
    )
    assert "are unsure" not in Outline(write(report_data(rows.drop_columns("unsure")))).text


def explained(found):
    """Make an explanation of each mistake that a page shows, in another order than on the page."""
    why = {}
    for row in reversed(mistakes.choose_shown(found, 15).to_pylist()):
        words = (WordPart(SCRIPT, 0.5, 0.5, 0.0), WordPart(f"w{row['row_id']}", -0.8, 0.0, -0.8))
        key = (row["kind"], row["row_id"])
        why[key] = Explanation(row["text"], "positive", 0.6, 0.1, 0.4, words)
    return why


def test_the_words_that_decide_are_under_the_mistakes_and_by_class(data, plots):
    rows = [
        {"label": "positive", "word": SCRIPT, "num_texts": 9, "fraction": 0.09, "mean_part": 2.0},
        {"label": "positive", "word": "love", "num_texts": 1, "fraction": 0.001, "mean_part": 1.0},
    ]
    zero = {"mean_linear": 0.0, "mean_network": 0.0}
    table = pa.Table.from_pylist([row | zero for row in rows], deciding_words.SCHEMA)
    of_classes = WordsOfClasses(table, num_texts=100, num_asked=40)
    words = DecidingWords(of_classes, explained(data.mistakes), num_left_out=2)
    page = render_page(change(data, words=words), plots)
    assert "over 100 test texts (the network over 40 of them), with" in page
    assert "2 texts have none, as the network takes too long for the words of long texts" in page
    assert SCRIPT not in page
    assert "love +1.00 <small>&lt;1%</small>" in page
    assert '--shade: 50%">&lt;script&gt;' in page
    shown = mistakes.choose_shown(data.mistakes, 15).to_pylist()
    assert shown
    for row in shown:
        after = page[page.index(f"w{row['row_id']} \u22120.80") :]
        assert f'<td class="muted wide">{row["row_id"]}</td>' in after[:600]
    assert 'href="#words"' in page
    assert 'href="#words"' not in render_page(data, plots)


def test_the_summary_names_the_first_words_of_the_classes_that_have_them_most(data, plots):
    rows = []
    for label, first in (("a", 0.004), ("negative", 0.31), ("b", 0.02), ("positive", 0.09)):
        for word, fraction in ((f"{label}_1", first), (SCRIPT, 0.003), (f"{label}_3", 0.9)):
            part = {"mean_part": 1.0, "mean_linear": 1.0, "mean_network": 0.0}
            rows.append({"label": label, "word": word, "num_texts": 1, "fraction": fraction} | part)
    table = pa.Table.from_pylist(rows, deciding_words.SCHEMA)
    words = DecidingWords(WordsOfClasses(table, num_texts=100, num_asked=0))
    page = render_page(change(data, words=words), plots)
    summary = page.partition("<h2>Summary</h2>")[2].partition("</section>")[0]
    assert '<a href="#words">that decide: negative: <bdi>negative_1</bdi> (31%)' in summary
    text = " ".join(Outline(summary).text.split())
    long = f"{SCRIPT[:29]}…"
    assert f"negative: negative_1 (31%), {long} (<1%); b: b_1 (2%)" in text
    assert f"; positive: positive_1 (9%), {long} (<1%); 1 more in the section" in text
    one = table.slice(3, 1)
    words = DecidingWords(WordsOfClasses(one, num_texts=100, num_asked=0))
    text = Outline(render_page(change(data, words=words), plots)).text
    assert "Words that decide: negative: negative_1 (31%) " in " ".join(text.split())
    assert "that decide: " not in render_page(data, plots)


def test_unequal_authors_give_no_interval_and_the_page_says_why(rows):
    place = np.arange(len(rows))
    author = np.where(place % 4 > 0, 99, place % 60).astype(np.uint64)  # one has most texts
    by_author = rows.append_column("author", pa.array(author))
    data = report_data(by_author, asked=False)
    reason = data.result.measured.metrics.no_interval
    assert "authors, so unequal in size that they count as" in reason
    page = write(data)
    assert f"There is no interval: {reason}." in " ".join(page.split())
    assert "95% interval 0.0%" not in page


def test_one_class_leaves_out_what_needs_two(rows, monkeypatch):
    monkeypatch.setattr(report_charts, "to_png", lambda figure: b"")
    positive = rows.filter(pa.compute.equal(rows["label"], 1))
    data = report_data(positive)
    plots = draw(data)
    assert set(plots) == ALL_PLOTS - {"roc.png"}
    text = Outline(render_page(data, dict.fromkeys(plots, b""))).text
    assert "needs both labels" in text
    assert "ranks above the others —" in text


def test_a_training_without_validation_rows_is_reported(data):
    curve = data.curve.copy()
    curve[["validation_loss", "validation_accuracy"]] = np.nan
    page = write(change(data, curve=curve))
    assert "3 0.3500 — —" in Outline(page).text
    assert "nan" not in page.partition('id="training"')[2]


def test_the_page_needs_nothing_but_itself(page):
    tags = Outline(page).tags
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in tags}
    addresses = [
        value
        for _, attributes in tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "data", "action", "poster")
    ]
    images = [address for address in addresses if not address.startswith("#")]
    assert len(images) == len(ALL_PLOTS)
    assert all(image.startswith("data:image/png;base64,") for image in images)
    assert "url(" not in page
    assert "@import" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_the_page_forbids_scripts_and_the_network(page):
    (policy,) = [
        attributes["content"]
        for tag, attributes in Outline(page).tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert "script-src" not in directives
    assert directives["img-src"] == "data:"


def test_markup_in_names_settings_and_texts_is_shown_not_run(rows):
    hostile = report_data(
        rows.set_column(7, "text", pa.array([SCRIPT] * len(rows))),
        counts={SCRIPT: 1},
        settings={SCRIPT: {"x": SCRIPT}, "list": [SCRIPT]},
        lineage=[(SCRIPT, SCRIPT, SCRIPT)],
        versions={SCRIPT: SCRIPT},
    )
    hostile = change(hostile, result=dataclasses.replace(hostile.result, name=SCRIPT))
    failures = (Failure(SCRIPT, 0.1, SCRIPT, 0.2),)
    behavior = [
        dataclasses.replace(test, failures=failures) for test in hostile.result.checks.behavior
    ]
    hostile = probed_anew(hostile, behavior=behavior)
    page = write(hostile)
    outline = Outline(page)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert "<script" not in page
    num_failures = 2 * len(behavior)
    assert (
        outline.text.count(SCRIPT)
        >= 10 + len(set(hostile.mistakes["kind"].to_pylist())) + num_failures
    )


def test_a_model_without_a_trained_network_says_its_shares_without_a_curve(data):
    no_curve = change(data, curve=data.curve[:0], logit_shares="network 0%")
    plots = {name: image for name, image in draw(no_curve).items() if "training_curve" not in name}
    page = render_page(no_curve, plots)
    assert "Share in the logits: network 0%." in page
    assert "Training curve" not in page
