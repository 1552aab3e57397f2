"""With a template key, near-copies keep together; the texts with the most rows are listed."""

from collections import defaultdict

import pytest
from test_prepare import PLAIN, THIRDS, WITH_USER, prepare, read, write_rows

from sentiflow.preparation import flow

pytestmark = pytest.mark.ray

SENTENCES = [f"this is sentence {number} of mine" for number in range(40)]
NUM_COPIES = 5


def copy(text, number):
    """Write a near-copy of a text."""
    changed = [text, f"@ann{number} {text}", f"{text} http://t.co/x", text.upper(), f"{text}!!"]
    return changed[number]


@pytest.fixture
def copies_csv(tmp_path):
    """Near-copies of some sentences, with users and times."""
    rows = []
    for number in range(NUM_COPIES):
        for place, text in enumerate(SENTENCES):
            user = f"user{number % 3}"
            time = f"2020-01-0{number + 1} 10:00:00"
            rows.append(("np"[place % 2], copy(text, number), user, time))
    return write_rows(tmp_path / "copies.csv", rows)


def splits_of_sentences(folder):
    """List the splits of the near-copies of each sentence."""
    splits = defaultdict(list)
    for row in read(folder):
        splits[row["row_id"] % len(SENTENCES)].append(row["split"])
    return splits.values()


@pytest.mark.parametrize("key", ["exact", "template"])
def test_near_copies_are_in_one_split_only_with_a_template_key(tmp_path, copies_csv, key):
    record = prepare(tmp_path, copies_csv, WITH_USER, duplicate_key=key, split=THIRDS)
    together = [len(set(splits)) == 1 for splits in splits_of_sentences(tmp_path)]
    assert all(together) == (key == "template")
    assert len(read(tmp_path)) == NUM_COPIES * len(SENTENCES)
    repeated = record["duplicates"]["normalized"]
    # one of the copies differs in case only
    assert repeated["surplus_rows"] == len(SENTENCES) * (1 if key == "exact" else NUM_COPIES - 1)
    assert repeated["leaked_rows"]["test_in_train"] == 0
    assert record["settings"].get("duplicate_key", "exact") == key
    assert ("template" in record["settings"]["rules"]) == (key == "template")


def test_repeats_that_are_dropped_follow_the_key(tmp_path, copies_csv):
    chosen = {"duplicate_key": "template", "duplicates": "drop", "split": THIRDS}
    record = prepare(tmp_path, copies_csv, WITH_USER, **chosen)
    assert [row["text"] for row in read(tmp_path)] == SENTENCES
    assert record["most_repeated"][0]["text"] == SENTENCES[0]


def test_rows_that_nearly_copy_given_test_rows_are_left_out(tmp_path, copies_csv):
    test = [("n", f"{SENTENCES[0]} 😀", "u", "2020-01-01"), ("p", "a text of its own", "u", "")]
    test_csv = write_rows(tmp_path / "test.csv", test)
    chosen = {"test": str(test_csv), "duplicate_key": "template"}
    record = prepare(tmp_path, copies_csv, WITH_USER, **chosen)
    assert record["counts"]["left_out_by_reason"] == {"held_out": NUM_COPIES}


def write_campaigns(path):
    """Write three campaigns of 30, 20 and 10 rows among other texts; the last contradicts itself.

    Row n has the campaign of its remainder by 10; the first campaign has three remainders.
    """
    rows = []
    for number in range(100):
        campaign = number % 10
        text, user = f"some text {number} of mine", f"user{number}"
        if campaign in (1, 2, 3):
            text, user = f"@ann{number} win a prize | now", f"bot{number % 2}"
        elif campaign in (4, 5):
            text, user = "Buy   this phone", "seller"
        elif campaign == 6:
            text = "what a day it is"
        label = "np"[number // 10 % 2] if campaign == 6 else "np"[campaign % 2]
        if campaign in (1, 2, 3):
            label = "n"
        rows.append((label, text, user, f"2020-01-{number // 10 + 1:02d} 23:59:59"))
    return write_rows(path, rows)


PRIZE = {"rows": 30, "row_id": 1, "text": "@ann1 win a prize | now"}
PHONE = {"rows": 20, "row_id": 4, "text": "Buy this phone"}
DAY = {"rows": 10, "row_id": 6, "text": "what a day it is"}
TEN_DAYS = {"first_day": "2020-01-01", "last_day": "2020-01-10"}


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("mode", ["keep", "drop"])
@pytest.mark.parametrize(
    ("key", "campaigns"), [("exact", [PHONE, DAY]), ("template", [PRIZE, PHONE, DAY])]
)
def test_the_texts_with_the_most_rows_are_listed(
    tmp_path, monkeypatch, is_large, mode, key, campaigns
):
    if is_large:  # several groups of texts
        monkeypatch.setattr(flow, "_ROWS_PER_GROUP", 30)
    path = write_campaigns(tmp_path / "tweets.csv")
    record = prepare(
        tmp_path, path, PLAIN, duplicate_key=key, duplicates=mode, rows_per_file=7, split=THIRDS
    )
    assert record["most_repeated"] == campaigns
    if mode == "drop":  # one campaign has both labels, and is shown although no row of it is kept
        assert DAY["text"] not in {row["text"] for row in read(tmp_path)}


@pytest.mark.parametrize("named", ["user", "author"])
def test_users_and_days_are_counted_where_they_are_kept(tmp_path, named):
    path = tmp_path / "tweets.csv"
    write_campaigns(path)
    path.write_bytes(b"label,text,author,when\n" + path.read_bytes())
    columns = {"label": "label", "text": "text", "user": "author", "time": "when"}
    chosen = {"keep_columns": [named, "time"], "duplicate_key": "template"}
    record = prepare(tmp_path, path, PLAIN | {"columns": columns}, **chosen)
    assert record["most_repeated"] == [
        PRIZE | TEN_DAYS | {"users": 2},
        PHONE | TEN_DAYS | {"users": 1},
        DAY | TEN_DAYS | {"users": 10},
    ]
