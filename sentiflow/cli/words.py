"""The `words` commands: one call of word geometry each, printed as lines or JSON.

With ``--json`` a command prints one object: ``vectors``, the source; ``words``, those of the
query; and ``results``, a list of ``{"word": ..., "value": ...}``, or other keys of the command.
"""

import inspect
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.options import AsJson
from sentiflow.cli.terminal import print_json
from sentiflow.errors import UserError, printable
from sentiflow.progress import say
from sentiflow.storage.uris import absolute_uri, names_model

if TYPE_CHECKING:
    from sentiflow.words.geometry import Neighbor
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

_DEFAULT = "package:glove.6B.50d"
_NUMBERS_A_LINE = 10


@app.command(epilog=_SOURCES)
@reporting()
def vector(
    word: Annotated[str, typer.Argument(metavar="WORD")],
    source: Source = _DEFAULT,
    max_words: MaxWords = None,
    as_json: AsJson = False,
) -> None:
    """Print the vector of a word and its rank; the most frequent word has rank 1.

    Example: sentiflow words vector car
    """
    vectors = _load(source, max_words)
    from sentiflow.words import geometry

    (row,) = geometry.look_up(vectors, [word]).tolist()
    numbers = vectors.vectors[row]
    if as_json:
        _echo_json(vectors, [word], rank=row + 1, vector=numbers.tolist())
        return
    typer.echo(f"{word}: rank {row + 1:,} of {len(vectors.words):,}")
    for first in range(0, len(numbers), _NUMBERS_A_LINE):
        line = (f"{number:9.4f}" for number in numbers[first : first + _NUMBERS_A_LINE])
        typer.echo("".join(line))


_MEASURES = {
    "distance": """Print the Euclidean distance between words.

    It is measured from the first word to each other word.

    Example: sentiflow words distance cat dog

    Example: sentiflow words distance cat pet dog bike kitten""",
    "similarity": """Print the cosine similarity between words, from -1 to 1.

    It is measured between the first word and each other word.

    Example: sentiflow words similarity good bad well perfect""",
}


def _add_measure(name: str, meaning: str) -> None:
    @app.command(name, help=inspect.cleandoc(meaning), epilog=_SOURCES)
    @reporting()
    def command(
        words: Annotated[list[str], typer.Argument(metavar="WORD", help="Two or more.")],
        source: Source = _DEFAULT,
        max_words: MaxWords = None,
        as_json: AsJson = False,
    ) -> None:
        _check_number(words, 2)
        vectors = _load(source, max_words)
        from sentiflow.words import geometry

        first, *others = words
        values = getattr(geometry, name)(vectors, first, others).tolist()
        found = list(map(geometry.Neighbor, others, values))
        if as_json:
            _echo_json(vectors, words, results=_to_json(found))
        elif len(found) == 1:
            typer.echo(f"{values[0]:.4f}")
        else:
            _echo_values(found)


for _name, _meaning in _MEASURES.items():
    _add_measure(_name, _meaning)


class _Query(NamedTuple):
    """A command that lists the words nearest to a point."""

    argument: str
    """What the user writes, for the help."""
    least: int
    most: int | None
    """Least and greatest number of words."""
    help: str


_QUERIES = {
    "nearest": _Query("One word.", 1, 1, """List the words nearest to a word.

    Example: sentiflow words nearest cat

    Example: sentiflow words nearest cat -n 5 --by cosine"""),
    "midpoint": _Query("Two or more words.", 2, None,
    """List the words nearest to the midpoint of words.

    Example: sentiflow words midpoint happy sad"""),
    "analogy": _Query("Three words: A, B and C.", 3, 3, """List the words nearest to A - B + C.

    They are to C as A is to B. For example, king man woman: who is to woman as king is to man?

    Example: sentiflow words analogy king man woman"""),
    "near": _Query("Words and signs, separated by spaces; quotes are not needed.", 1, None,
    """List the words nearest to a signed sum of words.

    Put spaces around the signs, + and -.

    Example: sentiflow words near "good - bad + programmer\""""),
}  # fmt: skip


def _add_query(name: str, query: _Query) -> None:
    @app.command(name, help=inspect.cleandoc(query.help), epilog=_SOURCES)
    @reporting()
    def command(
        words: Annotated[list[str], typer.Argument(metavar="WORD", help=query.argument)],
        n: Count = 10,
        by: By = "euclidean",
        exclude_query: ExcludeQuery = False,
        source: Source = _DEFAULT,
        max_words: MaxWords = None,
        as_json: AsJson = False,
    ) -> None:
        _check_number(words, query.least, query.most)
        vectors = _load(source, max_words)
        from sentiflow.words import geometry

        if name == "near":
            terms = geometry.parse(" ".join(words))
            words = [term.word for term in terms]
            point = geometry.combine(vectors, terms)
        elif name == "analogy":
            point = geometry.analogy(vectors, *words)
        else:
            point = geometry.midpoint(vectors, words)
        exclude = words if exclude_query else None
        neighbors = geometry.nearest(vectors, point, n=n, by=by, exclude=exclude)
        dropped = [neighbors.left_out] if neighbors.left_out else []
        if as_json:
            results, left_out = _to_json(neighbors.found), _to_json(dropped)
            _echo_json(vectors, words, by=by, results=results, left_out=left_out)
            return
        _echo_values(neighbors.found)
        for word, value in dropped:
            if word not in words:
                typer.echo(f"left out: {printable(word)} {value:.4f}", err=True)


for _name, _query in _QUERIES.items():
    _add_query(_name, _query)


@app.command("map", epilog=_SOURCES)
@reporting()
def draw_map(
    words: Annotated[list[str], typer.Argument(metavar="WORD", help="Two or more.")],
    to: Annotated[str, typer.Option(metavar="FILE.png", help="The file to write.")],
    source: Source = _DEFAULT,
    max_words: MaxWords = None,
    as_json: AsJson = False,
) -> None:
    """Draw a map of words, as PNG.

    The axes are the first two principal components of the words' vectors.

    Words with similar vectors are near each other on the map. Words near each other on the map may
    still differ, the more so the less of the variance the axes explain.

    Example: sentiflow words map king queen man woman prince princess --to royals.png
    """
    words = list(dict.fromkeys(words))
    _check_number(words, 2)
    absolute_uri(to, setting="--to")
    if not to.lower().endswith(".png") or Path(to).is_dir():
        raise UserError(f"--to {to}", hint="name a file that ends in .png")
    vectors = _load(source, max_words)
    from sentiflow.storage import filesystem
    from sentiflow.words import charts, geometry

    rows = geometry.look_up(vectors, words)
    projection = geometry.project(vectors.vectors[rows])
    filesystem.write_bytes(absolute_uri(to), charts.draw_map(words, projection))
    share = projection.explained.sum()
    say("words", f"{len(words)} words; the map shows {share:.0%} of their variance: {to}")
    if as_json:
        points = zip(words, projection.points.tolist(), strict=True)
        results = [{"word": word, "point": point} for word, point in points]
        _echo_json(vectors, words, explained=projection.explained.tolist(), results=results)


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
    source: Source = _DEFAULT,
    max_words: MaxWords = None,
    as_json: AsJson = False,
) -> None:
    """Measure the bias of word vectors.

    The measures are a gender direction and published tests.

    The direction is that of ten pairs like he and she (Bolukbasi et al. 2016); professions are
    measured along it. The ten association tests are WEAT 1 to 10 (Caliskan et al. 2017). --pair and
    --word, which may be repeated, choose other pairs and words; then there are no tests.

    Example: sentiflow words bias

    Example: sentiflow words bias --pair young:old --pair youth:age --word wise --word fast
    """
    chosen = [_read_pair(pair) for pair in pairs or ()]
    vectors = _load(source, max_words)
    from sentiflow.cli import bias_text
    from sentiflow.words import geometry, word_bias

    typed = [word for pair in chosen for word in pair] + (words or [])
    geometry.look_up(vectors, typed)
    found = word_bias.measure_word_bias(
        vectors,
        pairs=chosen or word_bias.GENDER_PAIRS,
        words=words or word_bias.PROFESSIONS,
        tests=() if chosen or words else word_bias.TESTS,
    )
    if as_json:
        asked = words or list(word_bias.PROFESSIONS)
        _echo_json(vectors, asked, **asdict(found))
    else:
        typer.echo(bias_text.to_text(found))


def _read_pair(text: str) -> tuple[str, str]:
    first, _, second = text.partition(":")
    if not first or not second:
        raise UserError(f"--pair {text}", hint="write two words like he:she")
    return first, second


def _load(source: str, max_words: int | None) -> "WordVectors":
    """Load the vectors; the package of a model in MLflow is downloaded first."""
    from sentiflow.words import word_vectors

    if not names_model(source):
        return word_vectors.load(source, max_words=max_words)
    from sentiflow.tracking import model_sources

    with tempfile.TemporaryDirectory() as folder:
        model = model_sources.describe(source, tracking=None)
        path = model_sources.download(model, to=folder, tracking=None)
        return replace(word_vectors.load(path, max_words=max_words), source=source)


def _check_number(words: Sequence[str], least: int, most: int | None = None) -> None:
    if len(words) < least or (most and len(words) > most):
        wanted = f"{least} or more words" if most is None else f"exactly {least}"
        raise UserError(f"{len(words)} given: {' '.join(words)}", hint=f"name {wanted}")


def _echo_values(values: Iterable[tuple[str, float]]) -> None:
    """Print words and values in two columns."""
    rows = [(printable(word), value) for word, value in values]
    width = max((len(word) for word, _ in rows), default=0)
    for word, value in rows:
        typer.echo(f"{word:<{width}} {value:.4f}")


def _to_json(neighbors: Iterable["Neighbor"]) -> list[dict[str, Any]]:
    return [neighbor._asdict() for neighbor in neighbors]


def _echo_json(vectors: "WordVectors", words: Sequence[str], **found: Any) -> None:
    record = {"vectors": vectors.source, "words": list(words)} | found
    print_json(record, allow_nan=False)
