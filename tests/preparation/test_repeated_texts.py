"""Repeated texts are reported over all parts, and left out as the settings say."""

import random
from collections import Counter, defaultdict

import pyarrow.parquet as pq
import pytest
import yaml
from test_prepare import MEANINGS, PLAIN, THIRDS, TUTORIAL, numbers, prepare, read, write_rows

from sentiflow.config import settings
from sentiflow.preparation import flow, part_counts

pytestmark = pytest.mark.ray

REPEATS = [
    ("p", "alpha"), ("n", "beta"), ("p", "gamma"), ("p", "ALPHA"), ("n", "beta"),
    ("n", "delta"), ("p", "alpha"), ("p", "epsilon"), ("n", "delta"), ("p", "zeta"),
    ("p", "same  words"), ("n", "Same words"), ("p", "eta"), ("p", "theta"), ("p", "theta"),
    ("u", "eta"), ("", "iota"), ("n", "iota"), ("n", "kappa"), ("n", "lambda"),
    ("?", "alpha"),
]  # fmt: skip
"""Of each five rows three are in train, one in test and one in validation; the last is refused."""

CONTRADICTING = [10, 11, 12, 15]
REPEATED = [3, 4, 6, 8, 14, 16]

REPORT = yaml.safe_load("""
  rows: {train: 12, validation: 4, test: 4}
  contradicting: {texts: 2, rows: {train: 4}}
  normalized:
    repeated_texts: 7
    surplus_rows: 8
    within: {train: {repeated_texts: 4, surplus_rows: 4}}
    leaked_rows: {validation_in_train: 1, test_in_train: 2, test_in_validation: 1}
""")
"""What is counted of them, but for zeros."""


@pytest.fixture
def repeats_csv(tmp_path):
    """Rows that repeat each other, contradict each other, and leak."""
    return write_rows(tmp_path / "repeats.csv", REPEATS)


@pytest.mark.parametrize(
    ("mode", "dropped", "reasons"),
    [
        ("keep", [], {}),
        ("drop_contradicting", CONTRADICTING, {"contradicting": 4}),
        ("drop", CONTRADICTING + REPEATED, {"contradicting": 4, "repeated": 6}),
    ],
)
def test_repeats_are_reported_and_left_out_as_the_settings_say(
    tmp_path, repeats_csv, resources, monkeypatch, mode, dropped, reasons
):
    monkeypatch.setattr(part_counts, "MIN_CLASS_ROWS", 1)
    chosen = {
        "classes": ["negative", "positive"],
        "split": TUTORIAL,
        "duplicates": mode,
        "max_rejected_fraction": 0.1,
    }
    record = prepare(tmp_path, repeats_csv, PLAIN, **chosen)
    kept = [number for number in range(20) if number not in dropped]
    assert record["counts"]["left_out_by_reason"] == reasons
    assert record["counts"]["rows_read"] == 21
    assert [(row["row_id"], row["text"]) for row in read(tmp_path)] == [
        (number, REPEATS[number][1]) for number in kept
    ]
    assert numbers(read(tmp_path, "encoded")) == [n for n in kept if REPEATS[n][0]]
    rows_by_label = Counter()
    for counts in record["counts"]["labels"].values():
        rows_by_label.update(counts)
    names = {"n": "negative", "p": "positive", "u": "neutral", "": "unlabelled"}
    expected = Counter(names[REPEATS[number][0]] for number in kept)
    assert rows_by_label == expected
    report = dict(record["duplicates"])
    left_out = {reason: sum(count.values()) for reason, count in report.pop("dropped").items()}
    assert {reason: count for reason, count in left_out.items() if count} == reasons
    counted = {name: count for name, count in settings.flatten(report).items() if count}
    assert counted == settings.flatten(REPORT)


def kept_of(rows, every_nth):
    """Say which rows stay if repeats are dropped: the rule, row by row."""
    numbers_of_text = defaultdict(list)
    for number, (label, text) in enumerate(rows):
        if number % every_nth == 0 and label in MEANINGS:
            numbers_of_text[" ".join(text.lower().split())].append(number)
    kept = []
    for same in numbers_of_text.values():
        labelled = [number for number in same if rows[number][0] != ""]
        labels = {rows[number][0] for number in labelled}
        if len(labels) <= 1:  # the labels do not contradict each other
            kept.append(min(labelled or same))
    return sorted(kept)


@pytest.mark.parametrize("is_large", [pytest.param(False, marks=pytest.mark.soak), True])
def test_every_nth_row_is_chosen_before_repeats_are_dropped_over_all_parts(
    tmp_path, resources, monkeypatch, is_large
):
    """A large corpus is one whose texts are compared in groups, its words summed file by file."""
    if is_large:
        monkeypatch.setattr(flow, "_ROWS_PER_GROUP", 500)
        monkeypatch.setattr(flow, "_MAX_MERGED", 2)
    rng = random.Random(5)
    pool = [f"{'word ' * 60}{number}" for number in range(150)]
    rows = []
    for _ in range(900):
        text = rng.choice(pool)
        usual = "np"[pool.index(text) % 2]
        label = rng.choices([usual, "", "u", "?"], [40, 10, 1, 2])[0]
        rows.append((label, rng.choice([text, text.upper(), f" {text}\n"])))
    path = write_rows(tmp_path / "tweets.csv", rows)
    record = prepare(
        tmp_path, path, PLAIN, every_nth=3, duplicates="drop", split=THIRDS, rows_per_file=1,
        max_rejected_fraction=0.2, keep_columns=[], classes=["negative", "positive"],
    )  # fmt: skip
    counts = record["counts"]
    assert path.stat().st_size > 4 * 65_536
    assert (counts["rows_read"], counts["left_out_by_reason"]["every_nth"]) == (900, 600)
    assert counts["rejected"] == sum(label == "?" for label, _ in rows[::3])
    kept = kept_of(rows, 3)
    assert [(row["row_id"], row["label"]) for row in read(tmp_path)] == [
        (number, MEANINGS[rows[number][0]]) for number in kept
    ]
    trained = numbers(read(tmp_path, "encoded/split=train"))
    words = pq.read_table(tmp_path / "run/prepared/vocabulary.parquet").to_pydict()
    count = dict(zip(words["word"], words["count"], strict=True))["word"]
    assert count == sum(rows[n][1].lower().count("word") for n in trained)
