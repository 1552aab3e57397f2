"""Usual names of columns and values in files of labelled texts."""

import re
from collections.abc import Collection, Mapping

from sentiflow.config.class_names import UNLABELLED, order_classes

NAMES: dict[str, tuple[str, ...]] = {
    "text": (
        "text", "tweet", "message", "content", "body", "review", "comment", "sentence", "post",
        "feedback", "description", "utterance", "answer", "phrase", "document", "texte",
        "nachricht", "kommentar", "mensaje", "texto",
    ),
    "label": (
        "label", "sentiment", "class", "target", "polarity", "emotion", "category", "stars",
        "rating", "tone", "opinion", "score", "intent", "y",
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
        2: the whole name is usual; 1: its first or last word is; 0: neither.
    """
    words = split_name(name)
    usual = NAMES[meaning]
    if "".join(words) in usual:
        return 2
    if words and (words[0] in usual or words[-1] in usual):
        return 1
    return 0


_MEANING = {value: name for name, values in CLASSES.items() for value in values}
"""The class that a usual value names."""
_NUMBERED: tuple[dict[str, str], ...] = (
    {"0": "negative", "4": "positive", "2": "neutral"},
    {"-1": "negative", "1": "positive", "0": "neutral"},
)
"""Usual numbers of classes."""
_ZERO_AND_ONE = {"0": "negative", "1": "positive"}
"""Numbers of classes in a column that is named like a sentiment."""


def rate_sentiments(values: Collection[str]) -> int:
    """Rate how well the values of a column fit sentiments.

    Returns:
        2: they name negative, positive and nothing else but neutral or no label; 1: they are two
        to seven values, and one is neutral; 0: neither.
    """
    names = {_MEANING.get(value.casefold()) for value in values if not _is_none(value)}
    if {"negative", "positive"} <= names and None not in names:
        return 2
    if "neutral" in names and 2 <= len(values) <= 7:
        return 1
    return 0


def name_classes(counts: Mapping[str, int], *, is_sentiment: bool = False) -> dict[str, list[str]]:
    """Name the classes of a column of labels, in their order, each with its values.

    Args:
        counts: Rows by value, the most frequent first.
        is_sentiment: Whether the name of the column says that it holds sentiments. Then 0 is
            negative and 1 is positive.

    Returns:
        Values by class. If some values mean no label, they and the empty one are under
        ``unlabelled``. Spellings that differ in case are one class.

    Example:
        >>> name_classes({"Neg": 5, "pos": 4, "POS": 1, "n/a": 1})
        {'negative': ['Neg'], 'positive': ['pos', 'POS'], 'unlabelled': ['', 'n/a']}
        >>> name_classes({"joy": 5, "anger": 4}), name_classes({"4": 5, "0": 5})
        ({'anger': ['anger'], 'joy': ['joy']}, {'negative': ['0'], 'positive': ['4']})
    """
    labels = [value for value in counts if not _is_none(value)]
    meaning = {} if _is_scale(labels) else _MEANING
    names_of_numbers = _name_numbers(labels, is_sentiment)
    groups: dict[str, list[str]] = {}
    first_spelling: dict[str, str] = {}
    for value in labels:
        folded = value.casefold()
        number = _plain_number(value)
        if number in names_of_numbers:
            name = names_of_numbers[number]
        elif folded in meaning:
            name = meaning[folded]
        else:
            name = first_spelling.setdefault(folded, value)
        groups.setdefault(name, []).append(value)
    classes = {name: groups[name] for name in order_classes(sorted(groups, key=_order))}
    none = [value for value in counts if _is_none(value) and value]
    if none:
        classes[UNLABELLED] = ["", *none]
    return classes


def _is_scale(labels: Collection[str]) -> bool:
    """Say whether labels are steps of a scale: beside "very good", "good" is not positive."""
    for label in labels:
        later_words = label.casefold().split()[1:]
        if _MEANING.keys() & {*later_words}:
            return True
    return False


def _is_none(value: str) -> bool:
    return value.casefold() in NO_LABEL


def _plain_number(value: str) -> str:
    """Write a whole number without a fraction and a plus sign."""
    return value.removeprefix("+").removesuffix(".0")


def _name_numbers(labels: Collection[str], is_sentiment: bool) -> dict[str, str]:
    """Name the classes of usual numbers; none are named if a number has no usual meaning."""
    numbers = {_plain_number(label) for label in labels}
    usual = _NUMBERED
    if is_sentiment:
        usual = (*usual, _ZERO_AND_ONE)
    for names in usual:
        needed = {number for number, name in names.items() if name != "neutral"}
        if needed <= numbers <= names.keys():
            return names
    return {}


def _order(name: str) -> tuple[float, str]:
    """Order numbers by their value, and names by the alphabet."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name
