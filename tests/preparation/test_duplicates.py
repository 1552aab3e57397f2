"""Counts and dropped rows equal those of a plain dictionary, in any order and partitioning."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.data.arrays import put_columns
from sentiflow.data.merged_counts import merge_counts
from sentiflow.data.schema import NEGATIVE, NEUTRAL, POSITIVE, SPLITS
from sentiflow.preparation.duplicates import KEYS, find, hash_texts
from sentiflow.preparation.most_repeated import choose

SETTINGS = settings(max_examples=50, deadline=None)

TRAIN, VALIDATION, TEST = range(3)
PAIRS = [("train", "validation"), ("train", "test"), ("validation", "test")]
MODES = ["keep", "drop_contradicting", "drop"]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["good", "Good", "good ", "bad", "BAD", "", " ", "fine", "so so"]),
        st.integers(TRAIN, TEST),
        st.sampled_from([NEGATIVE, POSITIVE, NEUTRAL, 99, None]) | st.just(POSITIVE),
    ),
    max_size=25,
)
MODE = st.sampled_from(MODES)


def keys_of(rows, row_ids=None):
    """Make the keys of rows of text, split and label."""
    if row_ids is None:
        row_ids = range(len(rows))
    texts = pa.array([text for text, _, _ in rows], pa.string())
    columns = {
        "row_id": pa.array(row_ids, pa.int64()),
        "label": pa.array([label for _, _, label in rows], pa.int8()),
        **hash_texts(texts),
        "split": pa.array([split for _, split, _ in rows], pa.int8()),
    }
    return pa.table(columns, schema=KEYS)


def dropped_by(keys, mode):
    """Name the rows that are to be left out, each with its reason."""
    table = find(keys, mode=mode)[1]
    return dict(zip(table["row_id"].to_pylist(), table["reason"].to_pylist(), strict=True))


def count_plainly(rows):
    """Count what :func:`find` counts of the texts, by a dictionary of lists."""
    splits_of_text = defaultdict(list)
    for text, split, _ in rows:
        splits_of_text[normalize(text)].append(SPLITS[split])

    def repeats(counts):
        return {
            "repeated_texts": sum(count > 1 for count in counts),
            "surplus_rows": sum(count - 1 for count in counts if count),
        }

    within = {}
    for name in SPLITS:
        within[name] = repeats([splits.count(name) for splits in splits_of_text.values()])
    leaked_rows = {}
    for one, other in PAIRS:
        shared = [splits.count(other) for splits in splits_of_text.values() if one in splits]
        leaked_rows[f"{other}_in_{one}"] = sum(shared)
    total = repeats([len(splits) for splits in splits_of_text.values()])
    return {**total, "within": within, "leaked_rows": leaked_rows}


def find_plainly(rows, mode):
    """Do what :func:`find` does, by a dictionary of lists."""
    texts = defaultdict(list)
    for row_id, (text, split, label) in enumerate(rows):
        texts[normalize(text)].append((row_id, SPLITS[split], label))
    num_contradicting = 0
    splits_of_contradicting = []
    dropped = {}
    for same in texts.values():
        labelled = [row for row in same if row[2] is not None]
        if len({row[2] for row in labelled}) > 1:
            num_contradicting += 1
            splits_of_contradicting += [row[1] for row in same]
            if mode != "keep":
                dropped |= {row[0]: "contradicting" for row in same}
        elif mode == "drop":
            kept = (labelled or same)[0]
            dropped |= {row[0]: "repeated" for row in same if row != kept}
    splits_of_dropped = {"contradicting": [], "repeated": []}
    for row_id, reason in dropped.items():
        splits_of_dropped[reason].append(SPLITS[rows[row_id][1]])
    counts = {
        "rows": name_splits(SPLITS[split] for _, split, _ in rows),
        "normalized": count_plainly(rows),
        "contradicting": {
            "texts": num_contradicting,
            "rows": name_splits(splits_of_contradicting),
        },
        "dropped": {reason: name_splits(splits) for reason, splits in splits_of_dropped.items()},
    }
    return counts, dropped


def normalize(text):
    return text.lower().strip()


def name_splits(names):
    found = Counter(names)
    return {name: found[name] for name in SPLITS}


@pytest.fixture(scope="module")
def example():
    """Fourteen rows counted by hand below."""
    return [
        ("good", TRAIN, POSITIVE),  # 0
        ("good", TRAIN, POSITIVE),  # 1
        ("Good", VALIDATION, POSITIVE),  # 2
        ("good", TEST, None),  # 3
        ("bad", TRAIN, NEGATIVE),  # 4
        ("bad ", TEST, POSITIVE),  # 5
        ("bad", TEST, None),  # 6
        ("so so", VALIDATION, None),  # 7
        ("so so", TEST, NEUTRAL),  # 8
        ("so so", TEST, NEUTRAL),  # 9
        ("alone", TRAIN, NEGATIVE),  # 10
        ("mute", VALIDATION, None),  # 11
        ("mute", VALIDATION, None),  # 12
        ("Alone?", TEST, POSITIVE),  # 13
    ]


def test_the_example_is_counted_as_by_hand(example):
    assert find(keys_of(example), mode="drop")[0] == {
        "rows": {"train": 4, "validation": 4, "test": 6},
        "normalized": {
            "repeated_texts": 4,
            "surplus_rows": 8,
            "within": {
                "train": {"repeated_texts": 1, "surplus_rows": 1},
                "validation": {"repeated_texts": 1, "surplus_rows": 1},
                "test": {"repeated_texts": 2, "surplus_rows": 2},
            },
            "leaked_rows": {
                "validation_in_train": 1,
                "test_in_train": 3,
                "test_in_validation": 3,
            },
        },
        "contradicting": {"texts": 1, "rows": {"train": 1, "validation": 0, "test": 2}},
        "dropped": {
            "contradicting": {"train": 1, "validation": 0, "test": 2},
            "repeated": {"train": 1, "validation": 3, "test": 2},
        },
    }


def test_the_example_drops_as_by_hand(example):
    keys = keys_of(example)
    contradicting = dict.fromkeys([4, 5, 6], "contradicting")
    assert dropped_by(keys, "keep") == {}
    assert dropped_by(keys, "drop_contradicting") == contradicting
    assert dropped_by(keys, "drop") == contradicting | dict.fromkeys(
        [1, 2, 3, 7, 9, 12], "repeated"
    )


@SETTINGS
@given(ROWS, MODE)
def test_the_result_is_that_of_a_dictionary(rows, mode):
    counts, dropped = find_plainly(rows, mode)
    found = find(keys_of(rows), mode=mode)
    assert found[0] == counts
    assert dropped_by(keys_of(rows), mode) == dropped


MANY_ROWS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 3) | st.none(), st.integers(-9, 9)),
    max_size=40,
)


@SETTINGS
@given(MANY_ROWS, MODE)
def test_the_texts_with_the_most_rows_are_those_of_a_dictionary(rows, mode):
    texts = defaultdict(list)
    for row_id, (text, user, day) in enumerate(rows):
        texts[text].append((row_id, user, day))
    origin = {
        "user": pa.array([user for _, user, _ in rows], pa.uint64()),
        "day": pa.array([day for _, _, day in rows], pa.int32()),
    }
    keys = put_columns(keys_of([(text, TRAIN, POSITIVE) for text, _, _ in rows]), origin)
    expected = []
    for same in texts.values():
        row_ids, users, days = zip(*same, strict=True)
        if len(same) >= 5:
            expected.append(
                {
                    "rows": len(same),
                    "users": len(set(users) - {None}),
                    "days": (min(days), max(days)),
                    "row_id": row_ids[0],
                    "split": TRAIN,
                    "is_dropped": False,
                }
            )
    expected.sort(key=lambda text: (-text["rows"], text["row_id"]))
    assert find(keys, mode=mode).most_repeated == expected


def test_ten_texts_are_listed_at_most_and_groups_give_the_same_ones():
    rows = [(f"{number % 14}", TRAIN, number % 2) for number in range(130)]
    keys = keys_of(rows)
    whole = find(keys, mode="keep").most_repeated
    assert [(text["rows"], text["row_id"]) for text in whole] == [(10, n) for n in range(4)] + [
        (9, n) for n in range(4, 10)
    ]
    group = keys["normalized"].to_numpy() % np.uint64(3)
    parts = [keys.filter(pa.array(group == number)) for number in range(3)]
    assert choose([find(part, mode="keep").most_repeated for part in parts]) == whole


@pytest.mark.parametrize(
    ("labels", "shown", "is_dropped"),
    [([1] * 6, 0, False), ([None, None, 1, 1, 1, 1], 2, False), ([0, 1] * 3, 0, True)],
)
def test_a_kept_row_is_shown_if_any_is_kept(labels, shown, is_dropped):
    (text,) = find(keys_of([("a", TEST, label) for label in labels]), mode="drop").most_repeated
    assert text["row_id"] == shown
    assert text["is_dropped"] == is_dropped
    assert text["rows"] == len(labels)


@SETTINGS
@given(ROWS, MODE, st.integers(1, 5))
def test_groups_of_whole_texts_add_up_to_the_whole(rows, mode, num_groups):
    keys = keys_of(rows)
    group = keys["normalized"].to_numpy() % np.uint64(num_groups)
    parts = [keys.filter(pa.array(group == i)) for i in range(num_groups)]
    found = [find(part, mode=mode) for part in parts]
    whole = find(keys, mode=mode)
    assert merge_counts([part[0] for part in found]) == whole[0]
    together = pa.concat_tables([part[1] for part in found])
    assert together.sort_by("row_id") == whole[1]


@pytest.mark.parametrize(
    ("normalized", "check", "repeated"),
    [
        ([7, 7, 7, 7], [8, 8, 8, 8], 1),
        ([7, 7, 7, 7], [8, 9, 9, 8], 2),
        ([6, 7, 7, 6], [8, 8, 8, 8], 2),
        ([7, 7, 7, 7], [6, 7, 8, 9], 0),
        ([6, 7, 8, 9], [8, 8, 8, 8], 0),
    ],
)
def test_both_hashes_decide_whether_texts_are_equal(normalized, check, repeated):
    columns = [range(4), [0, 1, 0, 1], normalized, check, [TRAIN, TEST, TRAIN, TEST]]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, KEYS, strict=True)]
    counts = find(pa.table(arrays, schema=KEYS), mode="keep")[0]
    assert counts["normalized"]["repeated_texts"] == repeated
    assert counts["contradicting"]["texts"] == repeated


@SETTINGS
@given(ROWS, MODE, st.randoms(use_true_random=False))
def test_the_order_of_the_keys_does_not_matter(rows, mode, random):
    keys = keys_of(rows)
    mixed = keys.take(pa.array(random.sample(range(len(rows)), len(rows)), pa.int64()))
    assert find(mixed, mode=mode) == find(keys, mode=mode)


def test_row_numbers_need_not_begin_at_0():
    keys = keys_of([("a", TRAIN, 1), ("a", TRAIN, 1), ("b", TRAIN, 1)], [900, 70, 3])
    assert dropped_by(keys, "drop") == {900: "repeated"}
