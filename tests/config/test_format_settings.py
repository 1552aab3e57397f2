"""The section format describes one way to read a file, or one line says why it does not."""

import pytest
import yaml

from sentiflow.config import decisive, settings, yaml_text
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.locations import resolve_locations
from sentiflow.data import row_checks
from sentiflow.errors import UserError


def faults_of(form):
    """List the lines that refuse a section ``format`` in a settings file."""
    raw = {"name": "trial", "output_uri": "runs", "prepare": {"csv": "tweets.csv"}}
    try:
        settings.validate(raw | {"format": yaml.safe_load(form)}, source="trial.yaml")
    except UserError as error:
        return str(error).splitlines()
    return []


LABELLED = "kind: csv, columns: {text: 0, label: 1}"

FAULTS = {
    "columns without kind": ("{columns: {text: 0}}", "format", "columns needs kind: csv"),
    "kind without columns": ("{kind: csv}", "format", "kind: csv needs columns, such as "),
    "kind unknown": ("{kind: tsv}", "format.kind", "'tsv': input should be 'sentiment140' or"),
    "no text": ("{kind: csv, columns: {id: 0}}", "format.columns.text", "is missing"),
    "a column called no": (
        "{kind: csv, columns: {text: 0, label: no}}",
        "format.columns.label",
        "must be a name in the header, or a position counted from 0",
    ),
    "label without labels": (
        "{kind: csv, columns: {text: 0, label: 1}}",
        "format",
        "columns.label needs labels, such as labels: auto",
    ),
    "auto without label": (
        "{kind: csv, columns: {text: 0}, labels: auto}",
        "format",
        "labels: auto reads the names of the classes from columns.label, which is not set: set it, "
        "or name the classes, such as labels: {negative: neg, positive: pos}",
    ),
    "two meanings": (
        f"{{{LABELLED}, labels: {{negative: [n, x], positive: [p, x]}}}}",
        "format.labels",
        "'x' is listed for negative and for positive",
    ),
    "a value twice": (
        f"{{{LABELLED}, labels: {{negative: [n, 'n '], positive: p}}}}",
        "format.labels",
        "'n' is listed twice for negative: blanks at the ends do not count",
    ),
    "a joiner at the end": (
        f'{{{LABELLED}, labels: {{"joy\\u200c": j, anger: a}}}}',
        "format.labels",
        "'joy\\u200c' is not the name of a class: it must be printable",
    ),
    "two meanings of nothing": (
        f"{{{LABELLED}, labels: {{negative: n, positive: p, neutral: ''}}}}",
        "format.labels",
        "'' is listed for neutral and for unlabelled",
    ),
    "YAML's no": (
        f"{{{LABELLED}, labels: {{negative: no, positive: p}}}}",
        "format.labels",
        "negative=False: write each value as it is in the CSV, in quotes",
    ),
    "a class twice": (
        f"{{{LABELLED}, labels: {{joy: j, Joy: J, anger: a}}}}",
        "format.labels",
        "'joy' and 'Joy' name one class: case does not count",
    ),
    "one class": (f"{{{LABELLED}, labels: {{joy: j}}}}", "format.labels", "needs two classes or m"),
    "an unquoted name": (
        f"{{{LABELLED}, labels: {{yes: y, 'no': n}}}}",
        "format.labels",
        "the name of a class is written in quotes, not as True",
    ),
    "a list": (f"{{{LABELLED}, labels: [a, b]}}", "format.labels", "must be auto, or the values"),
    "two characters": ("{kind: csv, columns: {text: 0}, delimiter: '::'}", "format", "'::' is not"),
    "a quote": (
        """{kind: csv, columns: {text: 0}, delimiter: '"'}""",
        "format",
        "it quotes a value or ends a line",
    ),
    "a name, no header": (
        "{kind: csv, columns: {text: body}, header: false}",
        "format",
        "column 'body' is a name, but header is false",
    ),
    "misspelt": (
        "{kind: csv, columns: {txt: 0, text: 1}}",
        "format.columns.txt",
        "mean format.columns.text?",
    ),
    "encoding": (
        "{encoding: utf-32}",
        "format.encoding",
        "'utf-32': must be utf-8, latin-1 or cp1252",
    ),
    "no directive": (
        "{kind: csv, columns: {text: 0}, time_format: dd/mm/yyyy}",
        "format",
        "time_format 'dd/mm/yyyy' has no directive, such as %d, %m or %Y",
    ),
    "unknown directive": (
        "{kind: csv, columns: {text: 0}, time_format: '%s'}",
        "format",
        "time_format '%s': %s is no directive",
    ),
    "a directive twice": (
        "{kind: csv, columns: {text: 0}, time_format: '%d/%m/%d'}",
        "format",
        "time_format '%d/%m/%d' has %d twice",
    ),
    "ordered without a number": (
        f"{{{LABELLED}, ordered: true, labels: {{bad: b, good: g}}}}",
        "format",
        "no number in the name of the class bad, good: give the number of each class in format.val",
    ),
    "ordered, in another order": (
        f"{{{LABELLED}, ordered: true, labels: {{'1': 1, '3': 3, '2': 2}}}}",
        "format",
        "neither rise nor fall from class to class (“1” = 1, “3” = 3, “2” = 2): list",
    ),
    "ordered, a number twice": (
        f"{{{LABELLED}, ordered: true, labels: {{'1': 1, 1 star: 3}}}}",
        "format",
        "neither rise nor fall",
    ),
    "a value of no class": (
        f"{{{LABELLED}, ordered: true, values: {{bad: 1}}, labels: {{'1': 1, '2': 2}}}}",
        "format",
        "values names bad, but the classes are “1”, “2”",
    ),
    "a value that is no number": (
        f"{{{LABELLED}, ordered: true, values: {{bad: low}}, labels: {{bad: 1, good: 2}}}}",
        "format.values",
        "bad='low': must be a number",
    ),
    "values without an order": (
        f"{{{LABELLED}, values: {{bad: 1, good: 2}}, labels: {{bad: 1, good: 2}}}}",
        "format",
        "values needs ordered: true",
    ),
    "an order without labels": (
        "{kind: csv, columns: {text: 0}, ordered: true}",
        "format",
        "ordered needs labels, in the order of the classes, such as labels: {'1': 1, '2': 2, "
        "'3': 3}; they need no columns.label",
    ),
    "an order of Sentiment140": ("{ordered: true}", "format", "ordered needs kind: csv"),
}


@pytest.mark.parametrize(("form", "key", "fault"), FAULTS.values(), ids=FAULTS)
def test_an_invalid_format_is_refused_in_one_line(form, key, fault):
    (line,) = faults_of(form)
    assert line.startswith("trial.yaml: ")
    assert f" {key}" in line
    assert fault in line


@pytest.mark.parametrize(
    "form",
    [
        "{kind: sentiment140, encoding: latin-1, errors: ignore, max_text_length: 5}",
        "{kind: csv, columns: {text: 0}}",
        "{kind: csv, columns: {text: 0}, labels: {negative: n, positive: p}}",
        "{kind: csv, columns: {text: 0}, labels: {'1': 1, '2': 2}, ordered: true}",
        '{kind: csv, columns: {text: body, time: 3}, delimiter: "\\t", time_format: "%d.%m.%Y"}',
        f"{{{LABELLED}, labels: {{negative: 'no', positive: 'yes', unlabelled: []}}}}",
        f"{{{LABELLED}, labels: {{بی\u200cطرف: 0, خشم: 1}}}}",  # Persian needs the non-joiner
    ],
)
def test_a_valid_format_is_accepted(form):
    assert faults_of(form) == []


def unlabelled(**section):
    """Validate a section ``prepare.unlabelled``."""
    raw = {"name": "trial", "output_uri": "runs", "prepare": {"unlabelled": section}}
    config = resolve_locations(settings.validate(raw, source="trial.yaml"), base="/here")
    return config.prepare.unlabelled


def test_unlabelled_files_have_the_column_text_unless_the_settings_say_else():
    plain = unlabelled(files="more.csv")
    assert plain.files == ("/here/more.csv",)
    form = plain.resolved_format
    assert (form.kind, form.columns.text, form.has_header) == ("csv", "text", True)
    form = unlabelled(format={"columns": {"text": 5}, "delimiter": ";"}).resolved_format
    assert (form.kind, form.columns.text, form.has_header) == ("csv", 5, False)
    form = unlabelled(format={"kind": "sentiment140"}).resolved_format
    assert (form.kind, form.columns) == ("sentiment140", None)
    dumped = form.model_dump()
    assert unlabelled(format=dumped).resolved_format == form
    labelled = {"columns": {"text": "a", "label": "b"}, "labels": "auto"}
    assert unlabelled(format=labelled).resolved_format.columns.text == "a"


def read_format(**changes):
    form = {"kind": "csv", "columns": {"text": 0, "label": 1}, "ordered": True}
    return FormatSettings.model_validate(form | changes)


@pytest.mark.parametrize(
    ("labels", "values", "expected"),
    [
        ({"1": "1", "2": "2", "10": "10"}, None, (1, 2, 10)),
        ({"0.5": "0.5", "1": "1", "1,5": "1,5"}, None, (0.5, 1, 1.5)),
        ({"3 stars": "3", "2 stars": "2"}, None, (3, 2)),
        ({"★": "★", "★★☆": "★★☆"}, None, (1, 2)),
        ({"positive": "p", "neutral": "o", "negative": "n"}, {"positive": 5, "neutral": 3}, None),
        (
            {"positive": "p", "neutral": "o", "negative": "n"},
            {"negative": 1, "positive": 5, "neutral": 3},
            (5, 3, 1),
        ),
    ],
)
def test_ordered_classes_keep_their_order_and_have_values(labels, values, expected):
    if expected is None:
        with pytest.raises(ValueError, match="no number in the name of the class negative"):
            read_format(labels=labels, values=values)
        return
    form = read_format(labels=labels, values=values)
    assert form.classes == tuple(labels)
    assert form.class_values == expected


def test_ordered_classes_that_auto_finds_are_sorted_by_number():
    form = read_format(labels="auto")
    assert form.class_values is None  # not known yet
    assert form.name_classes(["10", "2", "1"]).classes == ("1", "2", "10")
    named = read_format(labels="auto", values={"good": 5, "bad": 1}).name_classes(["good", "bad"])
    assert (named.classes, named.class_values) == (("bad", "good"), (1, 5))
    with pytest.raises(UserError, match="no number in the name of the class good"):
        row_checks.name_classes(form, ["1", "good"])


def test_the_order_changes_a_fingerprint_only_where_it_is_set():
    labels = {"1": "1", "2": "2"}
    unordered = decisive.dump(read_format(labels=labels, ordered=False))
    assert "ordered" not in unordered
    assert "values" not in unordered
    assert decisive.dump(read_format(labels=labels)) == unordered | {"ordered": True}


def test_a_score_format_without_labels_inherits_no_order():
    form = {"kind": "csv", "columns": {"text": 0, "label": 1}, "labels": "auto", "ordered": True}
    raw = {"format": form, "score": {"format": {"columns": {"text": 3}}}}
    inherited = yaml_text.inherit_format(raw)["score"]["format"]
    assert "ordered" not in inherited
