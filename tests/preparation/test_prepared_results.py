"""A corpus that cannot be trained on is refused in one line that gives counts and a way out."""

import pytest

from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.preparation import part_counts
from sentiflow.preparation.part_counts import PartCounts


def counts(*, reasons=None, unknown=None, **labels):
    """Count rows of each class in train, validation and test."""
    return {
        "peak_memory_bytes": 1,
        "files": [],
        "reasons": reasons or {},
        "unknown_labels": unknown or {},
        "labels": {
            split: {name: rows[number] for name, rows in labels.items()}
            for number, split in enumerate(SPLITS)
        },
    }


def refusal(check, *arguments, **options):
    with pytest.raises(UserError) as error:
        check(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


CLASSES = ("joy", "anger", "fear")

REFUSED = {
    "one class": (
        {"joy": (8, 1, 1), "anger": (0, 0, 0)},
        "none of the 20 accepted rows is anger or fear: a classifier needs two classes or more",
    ),
    "rare classes": (
        {"joy": (8, 1, 1), "anger": (3, 1, 0), "fear": (0, 2, 0)},
        "a class needs 10 rows or more, and 2 of 3 have fewer: anger (8), fear (4): add rows, or "
        "leave them out: name the others in train.classes",
    ),
    "none in train": (
        {"joy": (8, 1, 1), "anger": (0, 6, 5)},
        "the train split has no anger row (0 train, 12 validation, 10 test): use more rows, "
        "another prepare.split.kind, or leave it out: name the others in train.classes",
    ),
}


@pytest.mark.parametrize(("rows", "line"), REFUSED.values(), ids=REFUSED)
def test_classes_that_cannot_be_learned_are_refused_with_their_counts(rows, line):
    found = PartCounts.of([counts(**rows)] * 2)
    assert refusal(part_counts.check_classes, found, learned=CLASSES).startswith(line)


def test_a_class_without_rows_is_a_note_and_others_do_not_count():
    parts = [counts(joy=(8, 1, 1), anger=(4, 1, 0)), counts(anger=(4, 0, 1), other=(1, 0, 0))]
    found = PartCounts.of(parts)
    assert part_counts.check_classes(found, learned=("joy", "anger")) == []
    (note,) = part_counts.check_classes(found, learned=(*CLASSES, "disgust"))
    assert note == "no row to learn is fear or disgust, so a model does not learn it"


def test_a_class_of_few_rows_is_left_out_with_a_note_unless_the_settings_name_it():
    rows = {"joy": (8, 1, 1), "anger": (8, 0, 2), "fear": (9, 0, 0)}
    notes = part_counts.check_classes(PartCounts.of([counts(**rows)]), learned=CLASSES)
    assert notes == [
        "classes of fewer than 10 rows are not learned, and their rows count as mistakes: fear (9)",
        "the validation split has no row of anger",
    ]
    line = refusal(
        part_counts.check_classes, PartCounts.of([counts(**rows)]), learned=CLASSES, are_named=True
    )
    assert line.startswith("a class needs 10 rows or more, and 1 of 3 have fewer: fear (9)")


def test_an_empty_split_is_a_note_unless_the_settings_ask_for_none():
    found = PartCounts.of([counts(joy=(8, 0, 2), anger=(8, 0, 2))])
    (note,) = part_counts.check_classes(found, learned=("joy", "anger"))
    assert note == "the validation split has no row of joy, anger"
    assert not part_counts.check_classes(found, learned=("joy", "anger"), empty=["validation"])


def test_unknown_labels_are_judged_by_the_labels_and_not_by_the_rows():
    def check(number):
        labels = {"joy": (900, 0, 0), "unlabelled": (9000, 0, 0)}
        found = counts(reasons={"unknown label": number}, unknown={"jou": number}, **labels)
        part_counts.check_rejected(PartCounts.of([found]), max_rejected_fraction=0.01)

    check(9)
    line = refusal(check, 10)
    assert line.startswith(
        "too many rows were rejected: 10 of 9,910 rejected (10 unknown label), 1.1% of the labels; "
        "labels that format.labels does not name: 'jou' (10): name them there, as a class or as "
    )


def test_a_refusal_lists_unknown_labels_with_their_counts():
    unknown = {f"no {number}": 12 - number for number in range(1, 12)}
    parts = [
        counts(joy=(90, 0, 0), reasons={"unknown label": 2}, unknown={"mixed": 1, "?" * 99: 1}),
        counts(reasons={"unknown label": 1302}, unknown={"mixed": 1202, "off topic": 100}),
        counts(reasons={"unknown label": 66}, unknown=unknown),
    ]
    line = refusal(part_counts.check_rejected, PartCounts.of(parts), max_rejected_fraction=0.1)
    assert "1,370 of 1,460 rejected (1,370 unknown label)" in line
    listed = "labels that format.labels does not name: 'mixed' (1,203), 'off topic' (100), 'no 1' ("
    assert listed in line
    assert "'no 8' (4), … 4 more: name them there, as a class or as unlabelled, correct" in line


@pytest.mark.parametrize(
    ("parts", "classes"),
    [
        ([{"5": 3, "1": 7}, {"4": 1}], ("1", "4", "5")),
        ([{"positive": 3, "neutral": 7}, {"negative": 1}], ("negative", "positive", "neutral")),
        ([{"neutral": 7}, {}, {"unlabelled": 9, "positive": 1}], ("neutral", "positive")),
    ],
)
def test_written_labels_are_the_classes_in_order(parts, classes):
    assert part_counts.choose_classes(parts) == classes


UNNAMED = {
    "none": ([{}], "and there is none: the column of the label is empty: set format."),
    "one": ([{"a": 1200}], "there is only one: 'a': the values of the label are 'a' (1,200): set "),
    "other case": (
        [{"Joy": 2, "fear": 1}, {"joy": 1}],
        "'Joy' and 'joy' name one class: case does",
    ),
    "a text": ([{"x" * 61: 1, "y": 1}], "is not the name of a class: it must be printable"),
}


@pytest.mark.parametrize(("parts", "line"), UNNAMED.values(), ids=UNNAMED)
def test_written_labels_that_are_no_classes_are_refused_with_their_counts(parts, line):
    message = refusal(part_counts.choose_classes, parts)
    assert message.startswith("format.labels=auto: ")
    assert line in message
    assert message.endswith("or list the values of each class in format.labels")
