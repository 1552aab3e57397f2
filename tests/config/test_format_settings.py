"""The section format describes one way to read a file, or one line says why it does not."""

import pytest
import yaml

from sentiflow.config import settings
from sentiflow.config.locations import resolve_locations
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
    "labels without label": (
        "{kind: csv, columns: {text: 0}, labels: {negative: n, positive: p}}",
        "format",
        "columns.label and labels need each other",
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
