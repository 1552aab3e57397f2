"""Usual names of columns and values in files of labelled texts."""

import re

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
"""For each meaning its usual names, the most usual first; a name may have them as a part."""

CLASSES: dict[str, tuple[str, ...]] = {
    "negative": ("negative", "neg", "negativ", "négatif", "negativo", "bad"),
    "positive": ("positive", "pos", "positiv", "positif", "positivo", "good"),
    "neutral": ("neutral", "neu", "neutre", "neutro"),
}
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
    """Rate how well a name fits a meaning: 2 as a whole, 1 by its last or first word, 0 not."""
    words, usual = split_name(name), NAMES[meaning]
    if "".join(words) in usual:
        return 2
    return int(bool(words) and (words[-1] in usual or words[0] in usual))


def is_known(name: str) -> bool:
    """Say whether this is the usual name of a column of some meaning."""
    return any(rate(name, meaning) == 2 for meaning in NAMES)
