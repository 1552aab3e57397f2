"""Usual names of columns and values in files of labelled texts."""

import math
import re
from collections.abc import Collection, Iterable, Mapping

from sentiflow.config.class_names import UNLABELLED, order_classes
from sentiflow.config.ordered_classes import read_value

NAMES: dict[str, tuple[str, ...]] = {
    "text": (
        "text", "tweet", "message", "content", "body", "review", "comment", "sentence", "post",
        "feedback", "description", "utterance", "answer", "phrase", "document", "texte",
        "nachricht", "kommentar", "mensaje", "texto",
    ),
    "label": (
        "label", "sentiment", "class", "target", "polarity", "emotion", "category", "stars",
        "rating", "tone", "opinion", "score", "intent", "y", "star", "ratings",
        "grade", "별점", "평점",
    ),
    "id": ("id", "uuid", "guid", "key", "number", "nr", "no"),
    "user": (
        "user", "author", "username", "name", "customer", "handle", "account", "sender", "from",
        "reviewer", "nickname", "login", "by",
    ),
    "time": (
        "time", "date", "timestamp", "created", "datetime", "day", "posted", "written", "sent",
        "published", "when", "datum",
    ),
}  # fmt: skip
"""Usual names of the column of each meaning."""

CLASSES: dict[str, tuple[str, ...]] = {
    "negative": (
        "negative", "neg", "negativ", "négatif", "negativo", "negatief", "bad", "schlecht",
        "mauvais", "malo", "cattivo", "ruim", "olumsuz", "отрицательный", "سلبي", "नकारात्मक",
        "ลบ", "เชิงลบ", "负面", "消极", "ネガティブ", "부정",
    ),
    "positive": (
        "positive", "pos", "positiv", "positif", "positivo", "positief", "good", "gut",
        "bon", "bueno", "buono", "bom", "olumlu", "положительный", "إيجابي", "सकारात्मक",
        "บวก", "เชิงบวก", "正面", "积极", "ポジティブ", "긍정",
    ),
    "neutral": (
        "neutral", "neu", "neutre", "neutro", "neutrale", "neutraal", "nötr", "нейтральный",
        "محايد", "तटस्थ", "กลาง", "เป็นกลาง", "中性", "中立", "ニュートラル", "중립",
    ),
}  # fmt: skip
"""Usual values of three classes, in lower case."""
NO_LABEL = ("", "nan", "null", "n/a", "na", "unlabelled", "unlabeled")
"""Usual values that mean no label, in lower case."""


def split_name(name: str) -> list[str]:
    """Split the name of a column into its words.

    Example:
        >>> split_name("tweet_created"), split_name("userName")
        (['tweet', 'created'], ['user', 'name'])
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^\w]+|_+|\s+", spaced.lower()) if word]


def rate(name: str, meaning: str) -> int:
    """Rate how well a name fits a meaning.

    Returns:
        2: the whole name is usual; 1: only its first or last word is usual; 0: no match.
    """
    words = split_name(name)
    usual = NAMES[meaning]
    if "".join(words) in usual:
        return 2
    if words and (words[0] in usual or words[-1] in usual):
        return 1
    return 0


_CLASS_OF_NUMBER: tuple[dict[str, str], ...] = (
    {"0": "negative", "4": "positive", "2": "neutral"},
    {"-1": "negative", "1": "positive", "0": "neutral"},
)
"""Usual numberings of the classes: the class of each number."""
_ZERO_AND_ONE = {"0": "negative", "1": "positive"}
"""A further numbering, if the name of the column says that it holds sentiments."""


def rate_sentiments(values: Collection[str]) -> int:
    """Rate how well the values of a column fit sentiments.

    Returns:
        2: both negative and positive are named, and every other value means neutral or no label;
        1: there are two to seven values, and one of them means neutral; 0: any other values.
    """
    classes = {_find_class(value) for value in values if not _is_none(value)}
    if {"negative", "positive"} <= classes and None not in classes:
        return 2
    if "neutral" in classes and 2 <= len(values) <= 7:
        return 1
    return 0


def list_labels(values: Iterable[str]) -> list[str]:
    """Leave out the values that mean no label."""
    return [value for value in values if not _is_none(value)]


def name_classes(counts: Mapping[str, int], *, is_sentiment: bool = False) -> dict[str, list[str]]:
    """Group the values of a column of labels into classes, and name and order the classes.

    Args:
        counts: Rows by value, the most frequent first.
        is_sentiment: Whether the name of the column says that it holds sentiments. Then 0 is
            negative and 1 is positive.

    Returns:
        Values by class. Values that differ only in case are one class. If some values mean no
        label, ``unlabelled`` lists them and the empty value.

    Example:
        >>> name_classes({"Neg": 5, "pos": 4, "POS": 1, "n/a": 1})
        {'negative': ['Neg'], 'positive': ['pos', 'POS'], 'unlabelled': ['', 'n/a']}
        >>> name_classes({"joy": 5, "anger": 4}), name_classes({"4": 5, "0": 5})
        ({'anger': ['anger'], 'joy': ['joy']}, {'negative': ['0'], 'positive': ['4']})
    """
    labels = list_labels(counts)
    is_scale = _is_scale(labels)
    class_of_number = _find_numbering(labels, is_sentiment)
    groups: dict[str, list[str]] = {}
    first_spelling: dict[str, str] = {}
    for value in labels:
        number = _plain_number(value)
        usual_class = _find_class(value)
        if number in class_of_number:
            name = class_of_number[number]
        elif usual_class and not is_scale:
            name = usual_class
        else:
            name = first_spelling.setdefault(value.casefold(), value)
        groups.setdefault(name, []).append(value)
    classes = {name: groups[name] for name in order_classes(sorted(groups, key=_sort_key))}
    no_labels = [value for value in counts if value and _is_none(value)]
    if no_labels:
        classes[UNLABELLED] = ["", *no_labels]
    return classes


_RATING_WORDS = {
    "star", "stars", "rating", "ratings", "score", "scores", "grade", "grades", "mark", "marks",
    "sterne", "bewertung", "note", "étoiles", "estrellas", "estrelas", "별점", "평점", "评分",
    "評価",
}  # fmt: skip
"""Words in the name of a column of ratings."""
_STAR = re.compile(r"[★⭐]|\b(stars?|sterne?|étoiles?|estrellas?|estrelas?|stelle)$", re.IGNORECASE)
"""In a value: what says that it is a number of stars."""
_MAX_RATING = 10


def are_ratings(name: str | int, labels: Collection[str]) -> bool:
    """Say whether labels are ratings: three or more numbers from 0 to 10, whole or halves.

    The name of the column must say so, or each label, such as ``3 stars``: numbers may also be
    codes of classes without an order.

    Example:
        >>> are_ratings("star", ["1", "2", "5"]), are_ratings("label", ["1", "2", "5"])
        (True, False)
        >>> are_ratings("label", ["1 star", "2 stars", "3 stars"])
        True
    """
    values = {read_value(label) for label in labels}
    if len(values) < 3 or len(values) < len(labels):
        return False
    for value in values:
        if value is None or not 0 <= value <= _MAX_RATING or 2 * value % 1:
            return False
    if all(_STAR.search(label) for label in labels):
        return True
    return bool({*split_name(str(name))} & _RATING_WORDS)


def _find_class(value: str) -> str | None:
    """Return the class that a usual value names; None for other values."""
    folded = value.casefold()
    for name, values in CLASSES.items():
        if folded in values:
            return name
    return None


def _is_scale(labels: Collection[str]) -> bool:
    """Say whether labels are steps of a scale, such as "good" and "very good".

    Then "good" is a class of its own, not a spelling of positive.
    """
    for label in labels:
        later_words = label.casefold().split()[1:]
        if any(_find_class(word) for word in later_words):
            return True
    return False


def _is_none(value: str) -> bool:
    """Say whether a value means no label."""
    return value.casefold() in NO_LABEL


def _plain_number(value: str) -> str:
    """Remove a plus sign and the fraction ``.0`` from a number."""
    return value.removeprefix("+").removesuffix(".0")


def _find_numbering(labels: Collection[str], is_sentiment: bool) -> dict[str, str]:
    """Find the usual numbering that labels follow, with or without neutral; empty if none fits."""
    numbers = {_plain_number(label) for label in labels}
    numberings = _CLASS_OF_NUMBER
    if is_sentiment:
        numberings = (*numberings, _ZERO_AND_ONE)
    for numbering in numberings:
        required = {number for number, name in numbering.items() if name != "neutral"}
        if required <= numbers <= numbering.keys():
            return numbering
    return {}


def _sort_key(name: str) -> tuple[float, str]:
    """Return the key to sort classes by: first numbers by value, then names by the alphabet."""
    value = read_value(name)
    return (math.inf if value is None else value), name
