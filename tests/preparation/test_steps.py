"""Each step of preparation is a function of a table, and leaves its rows in their places."""

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.config.prepare_sections import SplitSettings
from sentiflow.data.schema import SPLITS
from sentiflow.models import vocabulary
from sentiflow.models.tokens import Tokens
from sentiflow.preparation import duplicates, part_counts, part_files, steps


@pytest.fixture
def table():
    """Six rows, of which the third was rejected."""
    return pa.table(
        {
            "row_id": pa.array(range(10, 16)),
            "text": ["so good", "So  good", None, "so bad", "", "bad"],
            "split": pa.nulls(6, pa.string()),
            "user": ["a", "b", None, "a", "b", "c"],
            "time": pa.array([5, 1, None, 9, 7, 3], pa.timestamp("s", tz="UTC")),
            "reason": pa.array([None, None, "empty text", None, None, None], pa.string()),
        }
    )


def test_rows_are_left_out_with_their_reason(table):
    dropped = pa.table(
        {"row_id": [12, 13, 14], "reason": ["repeated", "repeated", "contradicting"]},
        schema=duplicates.DROPPED,
    )
    found = steps.leave_out(table, every_nth=5, dropped=dropped)["reason"].to_pylist()
    nth = steps.EVERY_NTH
    assert found == [None, nth, nth, nth, nth, None]
    found = steps.leave_out(table, dropped=dropped)["reason"].to_pylist()
    assert found == [None, None, "empty text", "repeated", "contradicting", None]
    assert steps.leave_out(table) == table


def test_each_rule_assigns_every_row(table):
    hashed = steps.hash_texts(table)
    shares = {"validation_fraction": 0.3, "test_fraction": 0.3}
    found = {}
    for kind in ("hash", "tutorial", "user", "time"):
        rule = SplitSettings(kind=kind, **shares)
        assigned = steps.assign_splits(hashed, rule=rule, time_bounds=(3, 6))
        found[kind] = assigned["split"].to_numpy()
    assert all(set(split) <= set(range(len(SPLITS))) for split in found.values())
    assert found["hash"][0] == found["hash"][1]
    expected = steps.assign_by_hash(hashed["normalized"].to_numpy(), **shares)
    assert found["hash"].tolist() == expected.tolist()
    assert found["user"][0] == found["user"][3]
    assert found["tutorial"].tolist() == [0, 0, 0, 2, 1, 0]
    assert found["time"][[0, 1, 3, 4, 5]].tolist() == [1, 0, 2, 2, 0]


def test_tokens_are_words_and_a_rejected_row_has_none(table):
    found = steps.tokenize(table, rule="tutorial")
    assert found["tokens"].to_pylist() == [
        ["so", "good"], ["so", "good"], [], ["so", "bad"], [], ["bad"],
    ]  # fmt: skip
    tokens = steps.tokens_of(found)
    assert sorted(tokens.words.to_pylist()) == ["bad", "good", "so"]
    assert np.diff(tokens.offsets).tolist() == [2, 2, 0, 2, 0, 1]


def test_tokens_become_ids_of_the_vocabulary(table):
    words = vocabulary.fit(
        pa.table({"word": ["so", "bad"], "count": [3, 2]}), min_count=1, max_size=None
    )
    tokens = steps.tokenize(table, rule="tutorial")
    found = steps.encode(tokens, words=words, max_length=1)
    assert found["num_unknown"].to_pylist() == [1, 1, 0, 0, 0, 0]
    assert found["length"].to_pylist() == [1, 1, 0, 1, 0, 1]
    so, bad = (words.words.to_pylist().index(word) for word in ("so", "bad"))
    assert found["token_ids"].to_pylist() == [[so], [so], [], [so], [], [bad]]
    assert found["is_cut"].to_pylist() == [True, True, False, True, False, False]


def test_of_a_long_text_both_ends_can_be_kept():
    words = vocabulary.fit(
        pa.table({"word": ["a", "b", "c", "d"], "count": [4, 3, 2, 1]}), min_count=1, max_size=None
    )
    lists = pa.array([["a", "b", "c", "d"], ["d", "c", "b"], ["a"]])
    tokens = pa.table({"tokens": Tokens.from_lists(lists).to_lists()})
    found = steps.encode(tokens, words=words, max_length=3, cut="middle")
    a, b, c, d = range(2, 6)
    assert found["token_ids"].to_pylist() == [[a, b, d], [d, c, b], [a]]
    assert found["is_cut"].to_pylist() == [True, False, False]


def test_a_text_whose_unknown_words_are_dropped_is_cut_by_its_other_words(table):
    tokens = steps.tokenize(table, rule="tutorial")
    known = vocabulary.from_words(pa.array(["so", "bad"]))
    found = steps.encode(tokens, words=known, max_length=1)
    assert found["is_cut"].to_pylist() == [False, False, False, True, False, False]


def test_a_table_without_rows_passes_every_step(table):
    empty = steps.tokenize(
        steps.assign_splits(steps.hash_texts(table[:0]), rule=SplitSettings()), rule="tweet"
    )
    assert len(empty) == 0
    assert len(steps.tokens_of(empty).words) == 0


def test_unusual_times_are_counted_and_told():
    times = pa.array([5, 10**9, None, 10**11], pa.timestamp("s", tz="UTC"))
    counted = part_files.count_times(pa.table({"time": times}))
    assert counted == {"rows": 3, "future": 1, "before_1990": 1}
    assert part_files.count_times(pa.table({"label": [1]})) == {}
    counts = part_counts.PartCounts(peak_memory_bytes=0, files=[], times=counted)
    (note,) = part_counts.describe_times(counts)
    assert note == (
        "of 3 times 1 are in the future and 1 are before 1990: is format.time_format right?"
    )
    assert part_counts.count_rows(counts, 0)["times"] == counted
    none = part_counts.PartCounts(peak_memory_bytes=0, files=[])
    assert part_counts.describe_times(none) == []
    assert "times" not in part_counts.count_rows(none, 0)
