"""The ``words`` commands: each is one call of word geometry, printed as lines or JSON.

With ``--json`` a command prints one object: ``vectors``, the source; ``words``, the words of the
query; and ``results``, a list of ``{"word": ..., "value": ...}``, or the command's own keys.
"""

import inspect
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.terminal import AsJson, fill, print_json
from sentiflow.errors import UserError, printable
from sentiflow.progress import Progress, say
from sentiflow.storage.uris import absolute_uri, names_model

if TYPE_CHECKING:
    from sentiflow.words.geometry import Neighbor
    from sentiflow.words.word_bias import Direction
    from sentiflow.words.word_vectors import WordVectors

_SOURCES = """\b
SOURCE of the vectors:
  package:glove.6B.50d   400,000 words, installed with sentiflow; the default
  torchtext:6B.100d      GloVe vectors, downloaded once to .vector_cache
  vectors.txt            a file in GloVe's or word2vec's text format; also .txt.gz or
                         .zip, and a file in an archive: glove.zip::glove.300d.txt
  runs/x/trained/model   a model package of sentiflow: the vectors that it learned;
                         also models:/NAME@champion and runs:/ID/model
"""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Word vectors: distances, neighbors, midpoints, analogies, bias, a map.",
    epilog=_SOURCES,
)

Source = Annotated[str, typer.Option("--vectors", metavar="SOURCE", help="See below.")]
MaxWords = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Use only the first N words, which are the most frequent."
    ),
]
Count = Annotated[int, typer.Option("-n", min=1, metavar="N", help="Number of words.")]
By = Annotated[
    Literal["euclidean", "cosine"],
    typer.Option(help="Euclidean distance, or cosine similarity."),
]
ExcludeQuery = Annotated[
    bool,
    typer.Option(
        "--exclude-query",
        help="Leave out the words of the query. By default only the nearest word is left out; a "
        "message says so if it is not a word of the query.",
    ),
]

_DEFAULT_SOURCE = "package:glove.6B.50d"
"""Source of the vectors if ``--vectors`` is not given."""
_NUMBERS_PER_LINE = 10
"""Number of values of a vector in a line."""
_MIN_FOR_TWO_COLUMNS = 10
"""Minimum number of words along a direction to list them in two columns instead of one."""


@app.command(epilog=_SOURCES)
@reporting()
def vector(
    word: Annotated[str, typer.Argument(metavar="WORD")],
    source: Source = _DEFAULT_SOURCE,
    max_words: MaxWords = None,
    as_json: AsJson = False,
) -> None:
    """Print the vector of a word and its rank; the most frequent word has rank 1.

    Example: sentiflow words vector car
    """
    vectors = _load_vectors(source, max_words)
    from sentiflow.words import geometry

    (row,) = geometry.look_up(vectors, [word]).tolist()
    numbers = vectors.vectors[row].tolist()
    lines = [f"{word}: rank {row + 1:,} of {len(vectors.words):,}"]
    for start in range(0, len(numbers), _NUMBERS_PER_LINE):
        some = numbers[start : start + _NUMBERS_PER_LINE]
        lines.append("".join(f"{number:9.4f}" for number in some))
    _print_result(lines, vectors, [word], as_json, rank=row + 1, vector=numbers)


_HELP_OF_MEASURES = {
    "distance": """Print the Euclidean distance between words.

    It is measured from the first word to each other word.

    Example: sentiflow words distance cat dog

    Example: sentiflow words distance cat pet dog bike kitten""",
    "similarity": """Print the cosine similarity between words, from -1 to 1.

    It is measured between the first word and each other word.

    Example: sentiflow words similarity good bad well perfect""",
}


def _add_measure(name: str, meaning: str) -> None:
    """Add a command that prints a function of :mod:`geometry` of the same name."""

    @app.command(name, help=inspect.cleandoc(meaning), epilog=_SOURCES)
    @reporting()
    def command(
        words: Annotated[list[str], typer.Argument(metavar="WORD", help="Two or more.")],
        source: Source = _DEFAULT_SOURCE,
        max_words: MaxWords = None,
        as_json: AsJson = False,
    ) -> None:
        _check_number(words, 2)
        vectors = _load_vectors(source, max_words)
        from sentiflow.words import geometry

        values = getattr(geometry, name)(vectors, words[0], words[1:]).tolist()
        pairs = zip(words[1:], values, strict=True)
        results = [geometry.Neighbor(word, value) for word, value in pairs]
        lines = _align(results) if len(results) > 1 else [f"{values[0]:.4f}"]
        _print_result(lines, vectors, words, as_json, results=_to_json(results))


for _name, _meaning in _HELP_OF_MEASURES.items():
    _add_measure(_name, _meaning)


class _Query(NamedTuple):
    """A command that lists the words nearest to a point: its help, and the words that it takes."""

    words: str
    """Help for the words that the user writes."""
    least: int
    """Minimum number of words."""
    most: int | None
    """Maximum number of words; None: any number."""
    meaning: str
    """Help for the command."""


_QUERIES = {
    "nearest": _Query(
        words="One word.",
        least=1,
        most=1,
        meaning="""List the words nearest to a word.

    Example: sentiflow words nearest cat

    Example: sentiflow words nearest cat -n 5 --by cosine""",
    ),
    "midpoint": _Query(
        words="Two or more words.",
        least=2,
        most=None,
        meaning="""List the words nearest to the midpoint of words.

    Example: sentiflow words midpoint happy sad""",
    ),
    "analogy": _Query(
        words="Three words: A, B and C.",
        least=3,
        most=3,
        meaning="""List the words nearest to A - B + C.

    They are to C as A is to B. For example, king man woman: who is to woman as king is to man?

    Example: sentiflow words analogy king man woman""",
    ),
    "near": _Query(
        words="Words and signs, separated by spaces; quotes are not needed.",
        least=1,
        most=None,
        meaning="""List the words nearest to a signed sum of words.

    Put spaces around the signs, + and -.

    Example: sentiflow words near "good - bad + programmer\"""",
    ),
}


def _add_query(name: str, query: _Query) -> None:
    """Add a command that lists the words nearest to a point."""

    @app.command(name, help=inspect.cleandoc(query.meaning), epilog=_SOURCES)
    @reporting()
    def command(
        words: Annotated[list[str], typer.Argument(metavar="WORD", help=query.words)],
        n: Count = 10,
        by: By = "euclidean",
        exclude_query: ExcludeQuery = False,
        source: Source = _DEFAULT_SOURCE,
        max_words: MaxWords = None,
        as_json: AsJson = False,
    ) -> None:
        _check_number(words, query.least, query.most)
        vectors = _load_vectors(source, max_words)
        from sentiflow.words import geometry

        if name == "near":
            terms = geometry.parse(" ".join(words))
            words = [word for _, word in terms]
            point = geometry.combine(vectors, terms)
        elif name == "analogy":
            point = geometry.analogy(vectors, *words)
        else:
            point = geometry.midpoint(vectors, words)
        exclude = words if exclude_query else None
        neighbors = geometry.nearest(vectors, point, n=n, by=by, exclude=exclude)
        _print_result(
            _align(neighbors.words),
            vectors,
            words,
            as_json,
            by=by,
            results=_to_json(neighbors.words),
            left_out=_to_json(neighbors.left_out),
        )
        # The nearest word is left out, which the user expects only of a word of the query.
        for word, value in neighbors.left_out:
            if word not in words and not as_json:
                typer.echo(f"left out: {printable(word)} {value:.4f}", err=True)


for _name, _query in _QUERIES.items():
    _add_query(_name, _query)


@app.command("map", epilog=_SOURCES)
@reporting()
def draw_map(
    words: Annotated[list[str], typer.Argument(metavar="WORD", help="Two or more.")],
    to: Annotated[str, typer.Option(metavar="FILE.png", help="The file to write.")],
    source: Source = _DEFAULT_SOURCE,
    max_words: MaxWords = None,
    as_json: AsJson = False,
) -> None:
    """Draw a map of words, as PNG.

    The axes are the first two principal components of the words' vectors.

    Words with similar vectors are near each other on the map. Words near each other on the map may
    still differ; more so if the axes explain little of the variance.

    Example: sentiflow words map king queen man woman prince princess --to royals.png
    """
    words = list(dict.fromkeys(words))
    _check_number(words, 2)
    uri = absolute_uri(to, setting="--to")
    if not to.lower().endswith(".png"):
        raise UserError(f"--to {to}", hint="name a file that ends in .png")
    vectors = _load_vectors(source, max_words)
    from sentiflow.storage import filesystem
    from sentiflow.words import geometry, word_charts

    rows = geometry.look_up(vectors, words)
    drawn, explained = geometry.project(vectors.vectors[rows])
    filesystem.write_bytes(uri, word_charts.draw_map(words, drawn, explained))
    say("words", f"{len(words)} words; the map shows {explained.sum():.0%} of their variance: {to}")
    points = zip(words, drawn.tolist(), strict=True)
    results = [{"word": word, "point": point} for word, point in points]
    _print_result([], vectors, words, as_json, explained=explained.tolist(), results=results)


@app.command(epilog=_SOURCES)
@reporting()
def bias(
    pairs: Annotated[
        list[str] | None,
        typer.Option("--pair", metavar="A:B", help="Two words that differ in one property."),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Option(
            "--word", metavar="WORD", help="A word to measure, instead of the professions."
        ),
    ] = None,
    source: Source = _DEFAULT_SOURCE,
    max_words: MaxWords = None,
    as_json: AsJson = False,
) -> None:
    """Measure the gender bias of word vectors.

    Professions are measured along the direction of ten pairs like he and she (Bolukbasi et al.
    2016). --pair and --word choose other pairs and words; both may be repeated.

    Example: sentiflow words bias

    Example: sentiflow words bias --pair young:old --pair youth:age --word wise --word fast
    """
    chosen = []
    named = []
    for pair in pairs or ():
        first, _, second = pair.partition(":")
        chosen.append((first, second))
        named += [first, second]
    if not all(named):
        raise UserError(f"--pair {' '.join(pairs or ())}", hint="write two words like he:she")
    vectors = _load_vectors(source, max_words)
    from sentiflow.words import geometry, word_bias

    geometry.look_up(vectors, named + (words or []))  # raises an error for an unknown word
    words = words or list(word_bias.PROFESSIONS)
    direction = word_bias.measure_direction(
        vectors, pairs=chosen or word_bias.GENDER_PAIRS, words=words
    )
    text = fill("word_bias.txt.j2", direction=direction, placed=_list_words(direction))
    _print_result([text], vectors, words, as_json, direction=asdict(direction))


def _list_words(direction: "Direction") -> list[tuple[str, ...]]:
    """List the words in two columns, the lowest and the highest first; few words in one column."""
    cells = [(each.word, f"{each.cosine:+.3f}") for each in direction.projections]
    empty = ("", "")
    rows: list[tuple[str, ...]] = []
    if len(cells) < _MIN_FOR_TWO_COLUMNS:
        rows.append(("lowest first", "", "", ""))
        for cell in cells:
            rows.append(cell + empty)
        return rows
    half = (len(cells) + 1) // 2
    lowest_first = cells[:half]
    highest_first = reversed(cells[half:])
    rows.append(("lowest first", "", "highest first", ""))
    for left, right in zip_longest(lowest_first, highest_first, fillvalue=empty):
        rows.append(left + right)
    return rows


def _load_vectors(source: str, max_words: int | None) -> "WordVectors":
    """Load the vectors; the package of a model in MLflow is downloaded first."""
    from sentiflow.words import word_vectors

    if not names_model(source):
        with Progress("words", what="reading the vectors"):
            vectors = word_vectors.load(source, max_words=max_words)
        if not len(vectors.words):
            raise UserError(f"{source} has no words", hint="name the vectors of a model or a file")
        return vectors
    from sentiflow.tracking import model_sources

    with (
        Progress("words", what="downloading the model"),
        tempfile.TemporaryDirectory() as folder,
    ):
        model = model_sources.describe(source, tracking=None)
        path = model_sources.download(model, to=folder, tracking=None)
        return replace(word_vectors.load(path, max_words=max_words), source=source)


def _check_number(words: Sequence[str], least: int, most: int | None = None) -> None:
    """Check the number of words. If there is a maximum, it equals the minimum."""
    if len(words) < least or (most and len(words) > most):
        number = f"{least} or more words" if most is None else f"exactly {least}"
        raise UserError(f"{len(words)} given: {' '.join(words)}", hint=f"name {number}")


def _align(values: Sequence[tuple[str, float]]) -> list[str]:
    """Write words and values in two columns."""
    words = [printable(word) for word, _ in values]
    width = max(map(len, words), default=0)
    lines = []
    for word, (_, value) in zip(words, values, strict=True):
        lines.append(f"{word:<{width}} {value:.4f}")
    return lines


def _to_json(neighbors: Sequence["Neighbor"]) -> list[dict[str, Any]]:
    """Describe words and their values for ``--json``."""
    return [neighbor._asdict() for neighbor in neighbors]


def _print_result(
    lines: Sequence[str],
    vectors: "WordVectors",
    words: Sequence[str],
    as_json: bool,
    **results: Any,
) -> None:
    """Print the lines, or with ``--json`` the results."""
    if as_json:
        print_json({"vectors": vectors.source, "words": words} | results, allow_nan=False)
    elif lines:
        typer.echo("\n".join(lines))
