"""A synthetic corpus in the format of Sentiment140, from a seed.

For demonstrations, tests and benchmarks. It needs no network and no license, and can have any size.
Words and sentences come from ``sample.yaml`` through a small grammar, so the corpus says nothing
about English. It has these
properties of the real file:

- The format: six quoted columns, no header, all negatives before all positives, ids ascending
  within a label, broken bytes, entities, mentions, links, spam, ids used twice.
- Word order matters: a negation inverts a word, and only one of two clauses decides. Both labels
  use every template equally often, so "not", "but" and "until" say nothing by themselves.
- Label noise: in one row of twenty the text means the opposite of the label.
"""

import itertools
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

NOISE_FRACTION = 0.05
"""Share of the rows whose text means the opposite of their label."""

BLOCK_ROWS = 50_000
"""Number of rows that are drawn and yielded at a time."""

_TWIN_INTERVAL = 500
"""One row in this many appears under both labels, with the same id, user and text."""

_SPAM_FRACTION = 0.004
"""Share of the rows that copy a text of their block."""
_SPAM_COPIES = 8
"""Average number of copies of a spam text."""

_WORDLESS_FRACTION = 0.0025
"""Share of the rows without a word: they have only mentions, links and non-letters."""

_CASE_SHARES = (0.55, 0.42, 0.03)
"""Shares of the sentences in lower case, with a capital first letter, and in capitals."""

_FIRST_ID = 1_467_810_369
"""Id of the real file's first tweet."""
_ID_SPAN = 861_395_425
"""Difference between its last and its first id."""
_FIRST_TIME = np.datetime64("2009-04-06T22:19:45").astype(np.int64)
"""Time of its first tweet, in seconds since 1970."""
_SECOND_SPAN = 6_869_323
"""Seconds between its first and its last tweet."""
_TARGETS = (b"0", b"4")
"""The column ``target`` of negative and positive rows."""

_ANTONYMS = {"good": "bad", "happy": "sad", "love": "hate", "smile": "cry"}
_ANTONYMS |= {bad: good for good, bad in _ANTONYMS.items()}


def generate(*, num_rows: int, seed: int) -> Iterator[bytes]:
    """Yield a corpus as CSV bytes, at most ``BLOCK_ROWS`` whole rows at a time.

    ``num_rows // 2`` negatives come first, then the positives; 0 rows yield nothing. The same
    arguments give the same bytes as long as numpy keeps its random streams. A longer corpus does
    not begin with a shorter one. Each line is a record: no field holds a newline or a quotation
    mark. Memory holds one block.

    Example:
        >>> lines = b"".join(generate(num_rows=3, seed=0)).splitlines()
        >>> [line[:4] for line in lines]
        [b'"0",', b'"4",', b'"4",']
    """
    num_negative = num_rows // 2
    num_positive = num_rows - num_negative
    for label, num_of_label in enumerate((num_negative, num_positive)):
        for start in range(0, num_of_label, BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, num_of_label))
            # At least half of the rows are positive, so the ids of both labels fit into the span.
            id_step = _ID_SPAN // num_positive
            yield _write_block(rows, label=label, seed=seed, id_step=id_step)


def _write_block(rows: np.ndarray, *, label: int, seed: int, id_step: int) -> bytes:
    """Write one block: the rows of ``label`` with these consecutive numbers.

    Row r of either label draws one of the ``id_step`` ids that begin at ``r * id_step``. Twins, the
    rows that appear under both labels, have the id in the middle.
    """
    block_number = rows[0] // BLOCK_ROWS
    rng = np.random.default_rng([seed, label, block_number])
    is_noise = rng.random(len(rows)) < NOISE_FRACTION
    is_negative_text = is_noise ^ (label == 0)
    texts = _draw_texts(rng, negative=is_negative_text)
    texts = _add_spam(rng, texts)
    users = _grammar("users").draw(rng, len(rows))
    offsets = rng.integers(id_step, size=len(rows))

    is_twin = rows % _TWIN_INTERVAL == _TWIN_INTERVAL // 2
    twin_texts, twin_users = _draw_twins(seed, block_number)
    texts = _replace(texts, is_twin, twin_texts)
    users = _replace(users, is_twin, twin_users)
    offsets[is_twin] = id_step // 2
    return _write_csv(_TARGETS[label], rows * id_step + offsets, users, texts)


def _draw_twins(seed: int, block_number: int) -> tuple[pa.Array, pa.Array]:
    """Draw texts and users for the twins of a full block, the same for both labels."""
    rng = np.random.default_rng([seed, 2, block_number])  # 2: neither of the labels
    max_twins = BLOCK_ROWS // _TWIN_INTERVAL
    is_negative = rng.random(max_twins) < 0.5
    texts = _draw_texts(rng, negative=is_negative)
    users = _grammar("users").draw(rng, max_twins)
    return texts, users


def _write_csv(target: bytes, id_offsets: np.ndarray, users: pa.Array, texts: pa.Array) -> bytes:
    """Join the columns of a block to lines; the date follows from the id."""
    times = (_FIRST_TIME + id_offsets * _SECOND_SPAN // _ID_SPAN).astype("datetime64[s]")
    dates = pc.strftime(pa.array(times), format="%a %b %d %H:%M:%S PDT 2009", locale="C")
    ids = pa.array(_FIRST_ID + id_offsets).cast(pa.string())
    lines = _join(
        b'"', target, b'","', ids, b'","', dates, b'","NO_QUERY","', users, b'","', texts, b'"\n'
    )
    one_list = pa.ListArray.from_arrays([0, len(lines)], lines)
    return pc.binary_join(one_list, b"")[0].as_py()


def _draw_texts(rng: np.random.Generator, *, negative: np.ndarray) -> pa.Array:
    """Draw a text for each row, negative where ``negative`` is true."""
    num_rows = len(negative)
    parts = [
        _grammar("leads").draw(rng, num_rows),
        _grammar("openings").draw(rng, num_rows),
        _draw_sentences(rng, negative=negative),
        _grammar("endings").draw(rng, num_rows),
        _grammar("trails").draw(rng, num_rows),
    ]
    texts = _join(*parts)
    is_wordless = rng.random(num_rows) < _WORDLESS_FRACTION
    wordless = _grammar("wordless").draw(rng, is_wordless.sum())
    return _replace(texts, is_wordless, wordless)


def _draw_sentences(rng: np.random.Generator, *, negative: np.ndarray) -> pa.Array:
    """Draw the sentences: a template that does not depend on the label, its words, and their case.

    :func:`_sentence_grammar` has all positive templates first, then their negative counterparts in
    the same order.
    """
    grammar = _sentence_grammar()
    num_positive_templates = len(grammar.shares) // 2
    numbers = grammar.choose(rng, len(negative))
    numbers[negative] += num_positive_templates
    lower = grammar.fill(rng, numbers).cast(pa.string())
    cases = rng.choice(3, len(negative), p=_CASE_SHARES)
    return pc.choose(pa.array(cases), lower, pc.utf8_capitalize(lower), pc.utf8_upper(lower))


def _mirror(template: str) -> str:
    """Invert the meaning of a template: replace each slot by its antonym."""

    def invert(slot: re.Match[str]) -> str:
        name = slot[1]
        return "{" + _ANTONYMS.get(name, name) + "}"

    return re.sub(r"{(\w+)}", invert, template)


def _add_spam(rng: np.random.Generator, texts: pa.Array) -> pa.Array:
    """Replace some texts by copies of a few others."""
    num_rows = len(texts)
    num_originals = 1 + int(num_rows * _SPAM_FRACTION / _SPAM_COPIES)
    originals = rng.integers(num_rows, size=num_originals)
    is_copy = rng.random(num_rows) < _SPAM_FRACTION
    sources = np.where(is_copy, rng.choice(originals, num_rows), np.arange(num_rows))
    return texts.take(pa.array(sources))


@dataclass(frozen=True)
class _Grammar:
    """Templates, each cut into pieces, with every way to fill each piece."""

    phrases: pa.Array
    """Every way to fill a piece, of all pieces of all templates in order."""
    starts: np.ndarray
    """For [template, piece]: position of its first phrase in ``phrases``."""
    sizes: np.ndarray
    """For [template, piece]: number of its phrases. Missing pieces have one, the empty phrase."""
    shares: np.ndarray
    """Probability of each template."""

    def draw(self, rng: np.random.Generator, num_rows: int) -> pa.Array:
        """Draw ``num_rows`` filled templates."""
        return self.fill(rng, self.choose(rng, num_rows))

    def choose(self, rng: np.random.Generator, num_rows: int) -> np.ndarray:
        """Draw template numbers by their shares."""
        return rng.choice(len(self.shares), num_rows, p=self.shares)

    def fill(self, rng: np.random.Generator, templates: np.ndarray) -> pa.Array:
        """Draw phrases for the pieces of the templates with these numbers, as bytes."""
        pieces = []
        for starts, sizes in zip(self.starts.T, self.sizes.T, strict=True):
            picks = (rng.random(len(templates)) * sizes[templates]).astype(np.int64)
            pieces.append(self.phrases.take(pa.array(starts[templates] + picks)))
        return _join(*pieces)


@cache
def _grammar(name: str) -> _Grammar:
    """Return the grammar of a part of the text other than its sentence, or of the user names."""
    return _build_grammar(_data()["surroundings"][name])


@cache
def _sentence_grammar() -> _Grammar:
    """Return the grammar of the positive sentences, then the negative ones in the same order."""
    positive = []
    negative = []
    for kind in _data()["templates"].values():
        texts = kind["texts"].splitlines()
        positive.append((kind["share"], texts))
        # Never chosen by share: reached from its positive counterpart, see ``_draw_sentences``.
        negative.append((0.0, [_mirror(text) for text in texts]))
    return _build_grammar([*positive, *negative])


def _build_grammar(groups: Sequence[tuple[float, Sequence[str]]]) -> _Grammar:
    """Build a grammar from groups of templates, which divide the share of their group equally."""
    templates: list[list[list[str]]] = []
    shares: list[float] = []
    for share, group in groups:
        for template in group:
            templates.append(_fill_pieces(template))
            shares.append(share / len(group))
    num_pieces = max(len(pieces) for pieces in templates)
    phrases: list[bytes] = []
    sizes: list[int] = []
    for pieces in templates:
        padding = [[""]] * (num_pieces - len(pieces))
        for piece in pieces + padding:
            phrases += [phrase.encode(errors="surrogateescape") for phrase in piece]
            sizes.append(len(piece))
    size_of_piece = np.array(sizes)
    start_of_piece = np.cumsum(size_of_piece) - size_of_piece
    return _Grammar(
        phrases=pa.array(phrases),
        starts=start_of_piece.reshape(len(templates), num_pieces),
        sizes=size_of_piece.reshape(len(templates), num_pieces),
        shares=np.array(shares),
    )


def _fill_pieces(template: str) -> list[list[str]]:
    """Cut a template behind each slot, and fill the slot with each of its phrases."""
    pieces = []
    for literal, slot in re.findall(r"([^{}]*){(\w+)}", template):
        pieces.append([literal + phrase for phrase in _lexicon()[slot]])
    tail = template.rpartition("}")[2]
    if tail:
        pieces.append([tail])
    return pieces


@cache
def _data() -> dict[str, dict[str, Any]]:
    """Load the lexicon and the templates."""
    file = resources.files("sentiflow.data") / "sample.yaml"
    return yaml.safe_load(file.read_text("utf-8"))


@cache
def _lexicon() -> dict[str, list[str]]:
    """List the phrases of each slot, the numeric slots included."""
    characters = string.digits + string.ascii_lowercase
    lexicon = {slot: phrases.split(", ") for slot, phrases in _data()["lexicon"].items()}
    lexicon["code"] = ["".join(pair) for pair in itertools.product(characters, repeat=2)]
    lexicon["number"] = [str(number) for number in range(1, 1000)]
    return lexicon


def _join(*columns: pa.Array | bytes) -> pa.Array:
    """Concatenate columns row by row, as bytes; a ``bytes`` is repeated in each row."""
    separator = b""
    binary = [c if isinstance(c, bytes) else c.cast(pa.binary()) for c in columns]
    return pc.binary_join_element_wise(*binary, separator)


def _replace(column: pa.Array, mask: np.ndarray, values: pa.Array) -> pa.Array:
    """Replace the rows where ``mask`` is true by the first of ``values``, in order."""
    return pc.replace_with_mask(column, pa.array(mask), values[: mask.sum()])
