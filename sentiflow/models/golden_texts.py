"""Made-up texts with a model's answers: a package keeps them, and each loader compares its own.

The same weights may answer differently where a library or a rule of the tokenizer has changed. A
model that does so is refused, because its calibration and its report no longer describe it.
"""

import functools
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata, resources
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationError

from sentiflow import __version__
from sentiflow.config.types import Fraction, Settings
from sentiflow.data import json_faults
from sentiflow.errors import UserError, printable, shorten

GOLDEN = "golden.json"
"""File of a package with its golden texts."""
_FIXED = "golden_texts.txt"
"""File beside this module: a text on each line, in many scripts. An empty line is an empty text."""
_NUM_TEXTS = 50
_WORDS_IN_TEXT = 5
"""Words of the vocabulary in each text that is made of them."""
_MAX_TEXTS = 1000
"""Maximum number of texts in a file."""
_MAX_CHARACTERS = 10_000
"""Maximum length of a text in a file."""
_MAX_VERSIONS = 20
"""Maximum number of versions in a file."""
_MAX_BYTES = 1 << 24
"""Maximum size of a file: 1,000 short texts with the answers of 100 classes fit."""
_SHOWN_CHARACTERS = 40
"""Maximum length of the part of a text that a message shows, in characters."""
_LIBRARIES = ("numpy", "pyarrow", "torch")
"""Libraries that may change an answer; torch only on a GPU, as numpy computes on a CPU."""

Score = Callable[[pa.Array], np.ndarray]
"""Computes the probability of each class, ``(N, C)``, for N texts."""


class GoldenTexts(Settings):
    """Texts, and the probabilities that the model gave them when it was saved."""

    texts: tuple[Annotated[str, Field(max_length=_MAX_CHARACTERS)], ...] = Field(
        min_length=1, max_length=_MAX_TEXTS
    )
    """N texts. There is at least one: each model has a finite answer to an empty text, its priors.
    """
    classes: tuple[str, ...]
    """Names of the C classes."""
    probabilities: tuple[tuple[Fraction, ...], ...]
    """For each text the probability of each class."""
    versions: dict[str, Annotated[str, Field(max_length=100)]] = Field(max_length=_MAX_VERSIONS)
    """The versions of sentiflow, Python and the libraries that computed them."""


class Tolerance(NamedTuple):
    """How much answers may differ by rounding alone."""

    probability: float
    """Largest accepted difference of a probability."""
    tie: float
    """Another label may be predicted if its probability was lower by less than this when the model
    was saved."""


TOLERANCE_ON_CPU = Tolerance(probability=1e-3, tie=1e-5)
TOLERANCE_ON_GPU = Tolerance(probability=1e-2, tie=1e-2)
"""A GPU multiplies in TF32. Answers in bfloat16 are not checked."""


class Mismatch(NamedTuple):
    """A text that a model answers differently."""

    number: int
    """Position of the text."""
    problem: str
    """What is different."""


def make(
    words: Sequence[str], *, joiner: str, classes: tuple[str, ...], score: Score
) -> GoldenTexts:
    """Make the golden texts of a model, with its answers.

    They are the fixed texts, and texts of words of its own vocabulary, which a model of any
    language knows. No text is a row of a corpus. A text whose answer is not a number is left out.

    Args:
        words: The vocabulary, without padding and the unknown word.
        joiner: What stands between two of these words.
        classes: Names of the classes.
        score: Computes the answers.
    """
    texts = [text[:_MAX_CHARACTERS] for text in [*_read_fixed(), *_join_words(words, joiner)]]
    found = score(pa.array(texts, pa.string())).astype(np.float64)
    rows = np.flatnonzero(np.isfinite(found).all(axis=1))
    # Seven digits are more than the tolerance needs, and the same in each run.
    probabilities = np.round(found[rows], 7).clip(0, 1)
    return GoldenTexts(
        texts=tuple(texts[row] for row in rows),
        classes=classes,
        probabilities=tuple(tuple(row) for row in probabilities.tolist()),
        versions=find_versions(),
    )


@functools.cache
def _read_fixed() -> tuple[str, ...]:
    """Read the fixed texts."""
    file = resources.files("sentiflow.models").joinpath(_FIXED)
    return tuple(file.read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def _join_words(words: Sequence[str], joiner: str) -> list[str]:
    """Make short texts of words that are spread evenly over the vocabulary, each word once.

    The last text has all of these words, 95 if there are enough: a model that reads fewer cuts it.
    """
    num_short = _NUM_TEXTS - len(_read_fixed()) - 1
    step = max(1, len(words) // (num_short * _WORDS_IN_TEXT))
    chosen = words[::step][: num_short * _WORDS_IN_TEXT]
    num_texts = min(num_short, len(chosen))
    texts = [joiner.join(chosen[number::num_short]) for number in range(num_texts)]
    return [*texts, joiner.join(chosen)]


def find_versions() -> dict[str, str]:
    """Find the versions of everything that may change an answer; without what is not installed."""
    versions = {"sentiflow": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def to_json(golden: GoldenTexts) -> bytes:
    """Write golden texts as JSON."""
    return json.dumps(golden.model_dump(mode="json"), ensure_ascii=False).encode()


def from_json(path: str, content: bytes, *, classes: tuple[str, ...], hint: str) -> GoldenTexts:
    """Read golden texts from JSON.

    Args:
        path: The file, for messages.
        content: Its content.
        classes: The classes of the model.
        hint: What to do if the file is damaged.

    Raises:
        UserError: The file is damaged, or belongs to a model of other classes.
    """
    if len(content) > _MAX_BYTES:
        raise UserError(f"{path} has {len(content):,} bytes, more than any model needs", hint=hint)
    try:
        golden = GoldenTexts.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise UserError(
            f"{path} cannot be read: {json_faults.find_first(error)}", hint=hint
        ) from error
    lengths = {len(row) for row in golden.probabilities}
    is_whole = len(golden.probabilities) == len(golden.texts) and lengths <= {len(classes)}
    if golden.classes != classes or not is_whole:
        raise UserError(f"{path} has the answers of another model", hint=hint)
    return golden


def check(golden: GoldenTexts, *, name: str, score: Score, on_gpu: bool = False) -> None:
    """Compare the answers of a model with those that it gave when it was saved.

    Args:
        golden: The texts, and the answers of then.
        name: The model, for the message.
        score: Computes the answers of now.
        on_gpu: Whether it computes them on a GPU.

    Raises:
        UserError: A label or a probability is different.
    """
    now = score(pa.array(golden.texts, pa.string()))
    tolerance = TOLERANCE_ON_GPU if on_gpu else TOLERANCE_ON_CPU
    mismatch = find_mismatch(golden, now, tolerance=tolerance)
    if mismatch is None:
        return
    versions = _compare_versions(golden.versions, find_versions(), on_gpu=on_gpu)
    text = shorten(printable(golden.texts[mismatch.number]), _SHOWN_CHARACTERS)
    raise UserError(
        f"{name} answers differently than when it was saved: {mismatch.problem} for its golden "
        f"text {mismatch.number + 1}, {text!r}; {versions}",
        hint="use what it was saved with, or train it again",
    )


def find_mismatch(golden: GoldenTexts, now: np.ndarray, *, tolerance: Tolerance) -> Mismatch | None:
    """Find the text whose answer differs most from the one of then; None if all are equal.

    An answer differs in either of two cases: a probability differs by more than
    ``tolerance.probability``, or the label of now was less probable then than the label of then, by
    ``tolerance.tie`` or more. On a CPU the second rule is much the stricter one: a small change of
    a probability does no harm, another label does.

    Args:
        golden: N texts, and the answers of then.
        now: The probabilities of now, ``(N, C)``.
        tolerance: How much the answers may differ.
    """
    then = np.array(golden.probabilities)
    rows = np.arange(len(then))
    label_then = then.argmax(axis=1)
    label_now = now.argmax(axis=1)
    lead = then[rows, label_then] - then[rows, label_now]
    is_other_label = lead >= tolerance.tie
    difference = np.abs(now - then).max(axis=1)
    is_other = is_other_label | ~(difference <= tolerance.probability)  # NaN differs
    if not is_other.any():
        return None
    number = int(np.where(is_other, np.nan_to_num(difference, nan=np.inf), -1).argmax())
    if not np.isfinite(now[number]).all():
        return Mismatch(number, "no finite probability")
    if is_other_label[number]:
        before = printable(golden.classes[label_then[number]])
        after = printable(golden.classes[label_now[number]])
        return Mismatch(number, f"{after} instead of {before}")
    column = int(np.abs(now[number] - then[number]).argmax())
    name = printable(golden.classes[column])
    found = f"probability {now[number, column]:.4f} of {name} instead of {then[number, column]:.4f}"
    return Mismatch(number, found)


def _compare_versions(then: Mapping[str, str], now: Mapping[str, str], *, on_gpu: bool) -> str:
    """Say with which versions a model was saved and is read.

    Libraries whose version is the same are left out, and torch if it does not compute the answers.

    Example:
        >>> then = {"sentiflow": "0.2.0", "numpy": "2.4.6", "pyarrow": "22.0.0", "torch": "2.9.0"}
        >>> now = {"sentiflow": "0.2.0", "numpy": "2.4.6", "pyarrow": "25.0.1"}
        >>> _compare_versions(then, now, on_gpu=False)
        'saved with sentiflow 0.2.0, pyarrow 22.0.0, read with sentiflow 0.2.0, pyarrow 25.0.1'
    """
    names = ["sentiflow"]
    for name, version in then.items():
        may_matter = name != "sentiflow" and (on_gpu or name != "torch")
        if may_matter and version != now.get(name):
            names.append(name)
    saved = ", ".join(f"{printable(name)} {printable(then.get(name, 'unknown'))}" for name in names)
    read = ", ".join(f"{printable(name)} {now.get(name, 'missing')}" for name in names)
    return f"saved with {saved}, read with {read}"
