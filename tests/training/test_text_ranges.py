"""Texts to answer are read in ranges, and many train rows are thinned."""

from sentiflow.training import text_ranges
from sentiflow.training.prepared_files import PreparedFiles


def test_parts_have_few_rows_and_of_many_train_rows_some_are_taken(monkeypatch):
    monkeypatch.setattr(text_ranges, "_ROWS_PER_RANGE", 10)
    monkeypatch.setattr(text_ranges, "MAX_TRAIN_ROWS", 40)
    rows = {"tweets/split=train/a": 65, "tweets/split=train/b": 35, "unlabelled/c": 25}
    record = {"files": [{"path": path, "rows": number} for path, number in rows.items()]}
    found = text_ranges.list_ranges(PreparedFiles.of(record, "u"), {"e": 12})
    assert [(each.split, each.uri[-1], each.num_rows) for each in found] == [
        ("train", "a", 10), ("train", "a", 10), ("train", "a", 2),
        ("train", "b", 10), ("train", "b", 2),
        ("unlabelled", "c", 10), ("unlabelled", "c", 10), ("unlabelled", "c", 5),
        ("excerpts", "e", 10), ("excerpts", "e", 2),
    ]  # fmt: skip
    assert (found[1].start, found[1].stop, found[1].step) == (30, 60, 3)
