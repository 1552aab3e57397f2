"""Texts + classes -> the part of each word in the logit of its text's class.

A logit counts here from the mean of the logits of all classes, and after the division by the
temperature; so the softmax of a text's logits is its probabilities.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.errors import UserError
from sentiflow.models import centered_logits, linear_parts, readable_pieces, units
from sentiflow.models.encoded_rows import EncodedRows
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.package import ModelPackage, ReadTexts
from sentiflow.models.readable_pieces import Pieces

_MAX_IDS = 1 << 17
"""Maximum number of token ids that a thread gives to the network at a time, counting each text as
often as it has words."""
_MAX_WAITING = 16
"""Maximum number of such batches that are in memory at a time."""


class _ShortenedRows(NamedTuple):
    """Texts that have one word less."""

    rows: EncodedRows
    """K texts as the network reads them."""
    left_out: np.ndarray
    """The number of the word that each lacks."""


@dataclass(frozen=True)
class WordParts:
    """The P words of N texts, and what each adds to the logit of its text's class.

    The parts of a text and the rest, ``logits`` minus their sum, are its logit.
    """

    pieces: Pieces
    linear: np.ndarray
    """P float64: the part by the linear model, exactly."""
    network: np.ndarray
    """P float64: how much lower the logit is by the network if the word is left out."""
    is_cut: np.ndarray
    """P bool: whether no network reads the word, as the text is longer than ``max_length``."""
    logits: np.ndarray
    """The logit of each text's class, N float64."""

    @property
    def parts(self) -> np.ndarray:
        """The parts of both models together, P float64."""
        return self.linear + self.network

    @property
    def rest(self) -> np.ndarray:
        """What no word adds, N float64: the bias, and what words do together in the network."""
        sums = np.bincount(self.pieces.texts, self.parts, minlength=len(self.logits))
        return self.logits - sums


class _PartsOfPackage(NamedTuple):
    """The parts by one of the packages of a model; the fields are those of :class:`WordParts`."""

    linear: np.ndarray
    network: np.ndarray
    logits: np.ndarray


class _Reading(NamedTuple):
    """How one of the packages of a model reads the texts."""

    package: ModelPackage
    read: ReadTexts
    order: np.ndarray
    """For each class of the first package its position in the classes of this package."""


def measure(package: ModelPackage, text: pa.Array, codes: np.ndarray) -> WordParts:
    """Measure the parts of all words in the logits of texts.

    The linear model is a sum over n-grams, divided by the norm of the text: the weight of an n-gram
    is shared equally among its words, and the norm is held fixed. The network has no such sum:
    each word is left out by itself, also if the text has it more than once. A word that the network
    does not read has no part there: one beyond ``max_length``, or one that the vocabulary drops.

    For several packages, parts and logits are the means over the packages. Their softmax is near
    the probabilities, which are means themselves.

    Args:
        package: The model.
        text: N strings, without nulls.
        codes: The class of each text whose logit is explained, N positions in the classes of the
            package.

    Raises:
        UserError: The package has several models with different tokenizers.
    """
    pieces, readings = _read(package, text)
    found = [_measure(each, pieces, each.order[codes]) for each in readings]
    return WordParts(
        pieces=pieces,
        linear=np.mean([each.linear for each in found], axis=0),
        network=np.mean([each.network for each in found], axis=0),
        is_cut=_find_cut(readings, pieces),
        logits=np.mean([each.logits for each in found], axis=0),
    )


def measure_linear(
    package: ModelPackage, text: pa.Array, codes: np.ndarray
) -> tuple[Pieces, np.ndarray]:
    """Measure the parts by the linear model alone, which takes little time; see :func:`measure`.

    Returns:
        The P words of the texts; and ``WordParts.linear``.
    """
    pieces, readings = _read(package, text)
    found = []
    for reading in readings:
        parts, _ = _measure_linear(reading, pieces, reading.order[codes])
        found.append(parts / reading.package.settings.temperature)
    return pieces, np.mean(found, axis=0)


def count_ids(package: ModelPackage, text: pa.Array) -> np.ndarray:
    """Count the token ids that networks read if each word of a text is left out once, N int64.

    This tells how long :func:`measure` takes, before it begins. A text is cut to ``max_length``
    ids, and words beyond them are not left out. 0: no network has a share in the logits.

    Args:
        package: The model.
        text: N strings, without nulls.

    Raises:
        UserError: As :func:`measure`.
    """
    pieces, readings = _read(package, text)
    num_ids = np.zeros(len(text), np.int64)
    for package, read, _ in readings:
        if package.settings.has_network:
            lengths = pc.list_value_length(read.encoded.token_ids).to_numpy().astype(np.int64)
            num_ids += lengths * np.minimum(lengths, np.diff(pieces.offsets))
    return num_ids


def _read(package: ModelPackage, text: pa.Array) -> tuple[Pieces, list[_Reading]]:
    """Read texts by each package of a model."""
    classes = package.settings.classes
    readings = []
    for member in (package, *package.others):
        if not package.settings.tokenizes_as(member.settings):
            raise UserError(
                "the averaged models split texts into different words",
                hint="ask one of them why",
            )
        order = [member.settings.classes.index(name) for name in classes]
        readings.append(_Reading(member, member.read(text), np.array(order, np.int64)))
    models = [each.package.linear for each in readings if each.package.linear is not None]
    pieces = readable_pieces.join(
        readings[0].read.tokens,
        models[0] if models else None,
        after_blank=package.find_after_blanks(text),
    )
    return pieces, readings


def _find_cut(readings: list[_Reading], pieces: Pieces) -> np.ndarray:
    """Say which words no network reads because their text is too long, P bool."""
    is_cut = []
    for package, read, _ in readings:
        settings = package.settings
        if not settings.has_network:
            continue
        own_units = units.split(read.tokens, settings.unit)
        of_units = package.vocabulary.find_cut(
            own_units, max_length=settings.max_length, cut=settings.cut
        )
        words = pieces.of_tokens[units.find_tokens(read.tokens, settings.unit)]
        num_units = np.bincount(words, minlength=len(pieces.words))
        num_cut = np.bincount(words, of_units, minlength=len(pieces.words))
        is_read = pc.list_value_length(read.encoded.token_ids).to_numpy() > 0
        is_cut.append((num_cut == num_units) & is_read[pieces.texts])
    if not is_cut:
        return np.zeros(len(pieces.words), bool)
    return np.all(is_cut, axis=0)


def _measure(reading: _Reading, pieces: Pieces, codes: np.ndarray) -> _PartsOfPackage:
    """Measure the parts by one package, for classes as positions in its own classes."""
    package, read, _ = reading
    settings = package.settings
    rows = EncodedRows.from_lists(read.encoded.token_ids)
    linear, has_ngram = _measure_linear(reading, pieces, codes)
    logits = np.bincount(pieces.texts, linear, minlength=len(codes)).astype(np.float64)
    if package.linear is not None:
        logits += centered_logits.center_row(package.linear.bias, codes)
    network = np.zeros(len(pieces.words))
    if settings.has_network:
        share = 1 - settings.linear_weight
        of_texts = centered_logits.center(package.network_logits(rows), codes)
        logits += share * of_texts
        network += share * _leave_out(reading, rows, pieces, codes, of_texts)
    is_known = (rows.lengths > 0) | has_ngram
    of_priors = centered_logits.center_row(package.log_priors, codes)
    return _PartsOfPackage(
        linear=linear / settings.temperature,
        network=network / settings.temperature,
        logits=np.where(is_known, logits / settings.temperature, of_priors),
    )


def _measure_linear(
    reading: _Reading, pieces: Pieces, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the parts by a linear model, before the division by the temperature.

    Returns:
        The part of each word, P float64; and whether the model knows an n-gram of each text, bool.
        Without a linear model all are 0 and False.
    """
    model = reading.package.linear
    parts = np.zeros(len(pieces.words))
    if model is None:
        return parts, np.zeros(len(codes), bool)
    of_tokens, has_ngram = linear_parts.share_ngrams(model, Ngrams.of(reading.read.tokens), codes)
    parts += np.bincount(pieces.of_tokens, of_tokens, minlength=len(parts))
    return parts, has_ngram


def _leave_out(
    reading: _Reading,
    rows: EncodedRows,
    pieces: Pieces,
    codes: np.ndarray,
    of_texts: np.ndarray,
) -> np.ndarray:
    """Measure how much lower the network's logit is without each word, P float64.

    Args:
        reading: N texts.
        rows: What the network reads of them.
        pieces: Their P words.
        codes: The class of each text.
        of_texts: The network's logit of each text, from the mean of the classes.
    """
    package, read, _ = reading
    settings = package.settings
    own_units = units.split(read.tokens, settings.unit)
    places = package.vocabulary.find_read(
        own_units, max_length=settings.max_length, cut=settings.cut
    )
    # the word of each unit that the network reads; it reads no text without a known unit
    words = pieces.of_tokens[units.find_tokens(read.tokens, settings.unit)[places]]
    words = words[(rows.lengths > 0)[pieces.texts[words]]]
    parts = np.zeros(len(pieces.words))

    def compare(shortened: _ShortenedRows) -> None:
        texts = pieces.texts[shortened.left_out]
        logits = package.network_logits(shortened.rows)
        parts[shortened.left_out] = of_texts[texts] - centered_logits.center(logits, codes[texts])

    shortened = _shorten(package, rows, words)
    waiting = list(islice(shortened, _MAX_WAITING))
    if len(waiting) == 1:  # starting threads would take longer
        compare(waiting[0])
        return parts
    with package.start_threads() as pool:
        while waiting:
            list(pool.map(compare, waiting))
            waiting = list(islice(shortened, _MAX_WAITING))
    return parts


def _shorten(
    package: ModelPackage, rows: EncodedRows, words: np.ndarray
) -> Iterator[_ShortenedRows]:
    """Leave out of each row one word after the other.

    Args:
        package: The model.
        rows: N texts.
        words: The number of the word that each of their ids belongs to, in rising order.
    """
    is_known = package.vocabulary.are_known(rows.token_ids)
    left_out, firsts = np.unique(words, return_index=True)
    row_of_word = np.searchsorted(rows.offsets, firsts, side="right") - 1
    size = rows.lengths[row_of_word]  # ids of the row of each word
    before = np.append(0, np.cumsum(size))
    start = 0
    while start < len(left_out):
        end = int(np.searchsorted(before, before[start] + _MAX_IDS, side="right")) - 1
        chosen = slice(start, max(end, start + 1))
        lengths = size[chosen]
        number = np.repeat(np.arange(len(lengths)), lengths)  # of the new row, for each id
        begin = rows.offsets[row_of_word[chosen]] - (before[chosen] - before[start])
        places = np.arange(len(number)) + begin[number]
        is_left = words[places] != left_out[chosen][number]
        num_known = np.bincount(number, is_left & is_known[places], minlength=len(lengths))
        is_left &= (num_known > 0)[number]  # as the vocabulary does
        new_lengths = np.bincount(number, is_left, minlength=len(lengths)).astype(np.int64)
        offsets = np.append(0, np.cumsum(new_lengths))
        ids = rows.token_ids[places[is_left]]
        shortened = EncodedRows(ids, offsets, np.zeros(0, np.int8))
        yield _ShortenedRows(shortened, left_out[chosen])
        start = chosen.stop
