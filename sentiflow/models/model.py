"""Texts of any container -> a table of predictions, by a model package in this process.

The table is a DataFrame where pandas is installed. Nothing else here needs pandas.
"""

import functools
import math
import reprlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union, overload

import numpy as np
import pyarrow as pa

from sentiflow.data.arrays import put_columns
from sentiflow.errors import UserError
from sentiflow.models import explanations
from sentiflow.models.explanations import Explanations
from sentiflow.models.package import PIECE, ModelPackage
from sentiflow.models.scores import Scores
from sentiflow.storage.uris import display_uri

if TYPE_CHECKING:
    import pandas as pd

Texts: TypeAlias = Union[  # a string in it, as pandas may not be installed
    str, Iterable[str | None], "pd.Series", np.ndarray, pa.Array, pa.ChunkedArray
]
"""One text, or texts in any container; None, NaN and ``pd.NA`` stand for no text."""

_TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view())
_CONTAINERS = (list, np.ndarray, pa.Array, pa.ChunkedArray)
"""Containers, besides a Series, that Arrow converts directly. Texts in any other container are
first converted to one of these."""


@dataclass(frozen=True, repr=False)
class Model:
    """A trained model, ready to label texts; :func:`sentiflow.load_model` reads it.

    Example:
        >>> model = sentiflow.load_model("runs/quickstart")  # doctest: +SKIP
        >>> model.classes  # doctest: +SKIP
        ('negative', 'positive')
    """

    package: ModelPackage
    """Network, vocabulary and settings; or several of them, whose probabilities are averaged."""
    uri: str | tuple[str, ...]
    """The directory or the name that the model was read from; for several models, all of these."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the columns of :meth:`predict_proba`."""
        return self.package.settings.classes

    @property
    def class_values(self) -> tuple[float, ...] | None:
        """The numbers of ordered classes, such as 1 to 5 stars; None: they have no order."""
        return self.package.settings.class_values

    @overload
    def predict(
        self, texts: Texts, *, top: int | None = None, arrow: Literal[False] = False
    ) -> "pd.DataFrame": ...

    @overload
    def predict(
        self, texts: Texts, *, top: int | None = None, arrow: Literal[True]
    ) -> pa.Table: ...

    def predict(
        self, texts: Texts, *, top: int | None = None, arrow: bool = False
    ) -> "pd.DataFrame | pa.Table":
        """Label texts, as ``score`` does with the rows of a file.

        Args:
            texts: A list, an iterator, a Series, an array of numpy or Arrow, or one text. None,
                NaN and ``pd.NA`` stand for no text.
            top: How many of the most probable classes to name, in place of the probability of
                each class.
            arrow: Return an Arrow table, not a DataFrame. Where pandas is not installed, an Arrow
                table is returned in any case.

        Returns:
            A row for each text, in their order, with the index of the Series: ``predicted_label``,
            ``confidence`` (its probability), ``probability`` (of positive, if the model has this
            class), ``probability_<class>`` for each class (float32), and ``num_tokens``, the number
            of tokens that the network reads and knows, or of characters if it reads these (1 if
            only the linear model knows something). If ``num_tokens`` is 0, the probabilities are
            the shares of the classes in training. With ``top``: ``predicted_label``,
            ``confidence``, ``label_2``, ``confidence_2`` and so on, and ``num_tokens``. A model
            trained with ``train.unsure`` adds ``unsure`` (bool): whether a person should label the
            text. A model of ordered classes adds, before ``num_tokens``, ``expected_rating`` (the
            mean of their numbers by probability, float32) and ``median_label`` (the first class at
            which the probabilities sum to one half).

        Raises:
            UserError: ``texts`` is a set, a value in it is not a text, or ``top`` is below 1.

        Example:
            >>> predictions = model.predict(["I love this place", "so sad"])  # doctest: +SKIP
            >>> predictions[["predicted_label", "num_tokens"]]  # doctest: +SKIP
              predicted_label  num_tokens
            0        positive           4
            1        negative           2
        """
        if top is not None and top < 1:
            raise UserError(f"top is {top}", hint="name at least one class")
        scores = self._score(texts)
        columns = scores.columns if top is None else scores.top(top)
        pd = None if arrow else _find_pandas()
        if pd is None:
            return pa.table(columns)
        frame = pd.DataFrame(
            {
                name: values.to_pandas() if isinstance(values, pa.Array) else values
                for name, values in columns.items()
            }
        )
        if isinstance(texts, pd.Series):
            return frame.set_axis(texts.index)
        return frame

    def predict_proba(self, texts: Texts) -> np.ndarray:
        """Compute the probability of each class: ``(N, C)`` float32, columns as :attr:`classes`.

        It can be a step of a scikit-learn pipeline: ``FunctionTransformer(model.predict_proba)``.

        Example:
            >>> model.predict_proba(["good", "bad", "fine"]).shape  # doctest: +SKIP
            (3, 2)
        """
        return self._score(texts).probabilities

    def _score(self, texts: Texts) -> Scores:
        """Score texts of any container, piece by piece."""
        return self.package.score_pieces(_to_arrays(texts, size=PIECE))

    def explain(self, texts: Texts, *, label: str | None = None) -> Explanations:
        """Say why texts get their labels: how much each word speaks for the label or against it.

        The parts of the words of a text and a rest sum to the logit of the label, counted from the
        mean of the logits of all classes; see :func:`models.word_parts.measure`.

        Args:
            texts: As in :meth:`predict`; no text has no words.
            label: The class to explain. Default: the predicted label of each text.

        Returns:
            A notebook shows it as texts with colored words. ``to_pandas()`` has a row for each
            word: ``row`` (number of the text, from 0), ``label``, and the fields of
            :class:`WordPart`; with the index of the Series. Each item is the :class:`Explanation`
            of a text.

        Raises:
            UserError: ``texts`` is a set, a value in it is not a text, or the model has no class
                ``label``.

        Example:
            >>> why = model.explain(["I love this place"])  # doctest: +SKIP
            >>> why.to_pandas()[["word", "part"]].sort_values("part").tail(1)  # doctest: +SKIP
               word      part
            1  love  0.734181
        """
        whole = _to_arrow(texts)
        text = pa.concat_arrays([pa.array([], pa.string()), *_to_arrays(whole, size=PIECE)])
        found = explanations.explain(self.package, text, label=label)
        with_nulls = put_columns(found.texts, {"text": whole.cast(pa.string())})
        return replace(found, texts=with_nulls, index=_find_index(texts))

    def to(self, device: str) -> "Model":
        """Move the model to a device, such as ``cuda`` or ``cpu``."""
        return replace(self, package=self.package.to(device))

    def __deepcopy__(self, memo: object) -> "Model":
        return self  # scikit-learn copies the steps of a pipeline; a model never changes

    def __repr__(self) -> str:
        uris = [self.uri] if isinstance(self.uri, str) else self.uri
        shown = ", ".join(repr(display_uri(uri)) for uri in uris)
        return f"Model({shown}, classes={list(self.classes)})"


@functools.cache
def _find_pandas() -> Any:
    """Import pandas; None if it is not installed. To ask again for each text would be slow."""
    try:
        import pandas as pd
    except ImportError:
        return None
    return pd


def _find_index(texts: Any) -> "pd.Index | None":
    """Return the index of a Series; None for any other container."""
    return texts.index if _is_of_pandas(texts, "Series") else None


def _to_arrays(texts: Texts, *, size: int) -> Iterator[pa.Array]:
    """Convert texts to Arrow, and cut them into pieces.

    Args:
        texts: N texts.
        size: Texts in a piece; the last one may have fewer.

    Yields:
        Arrays of strings, in order; a missing text is an empty string.

    Raises:
        UserError: ``texts`` is not a list of texts, or a value in it is not a text.

    Example:
        >>> [array.to_pylist() for array in _to_arrays(["good", None, "bad"], size=2)]
        [['good', ''], ['bad']]
    """
    whole = _to_arrow(texts)
    for start in range(0, len(whole), size):
        piece = whole[start : start + size]
        if isinstance(piece, pa.ChunkedArray):
            piece = piece.combine_chunks()
        yield piece.cast(pa.string()).fill_null("")


def _to_arrow(texts: Any) -> pa.Array | pa.ChunkedArray:
    """Convert texts to an array of any string type."""
    if isinstance(texts, np.ndarray) and texts.ndim == 0:
        texts = texts.item()  # one text
    if isinstance(texts, str):
        texts = [texts]
    if isinstance(texts, set | frozenset):
        raise UserError("a set of texts has no order", hint="give a list, such as sorted(texts)")
    is_frame = _is_of_pandas(texts, "DataFrame")
    if is_frame or isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable):
        hint = "give a list of strings, a column of a table, or one string"
        if hasattr(texts, "columns"):
            hint = "name its column: frame['text']"
        raise UserError(f"a model takes texts, not {type(texts).__name__}", hint=hint)
    is_container = isinstance(texts, _CONTAINERS) or _is_of_pandas(texts, "Series")
    if not is_container and hasattr(texts, "__arrow_c_stream__"):
        texts = pa.chunked_array(texts)  # a column of another library, such as polars
    elif not is_container:
        texts = list(texts)
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else _infer(texts)
    value_type = array.type
    if pa.types.is_dictionary(value_type):
        value_type = value_type.value_type
    if value_type not in _TEXT_TYPES and array.null_count < len(array):
        raise _make_type_error(texts)
    return array


def _infer(texts: Any) -> pa.Array | pa.ChunkedArray:
    """Convert a list, an array of numpy or a Series; Arrow finds the type of the values."""
    try:
        return pa.array(texts, from_pandas=True)
    except UnicodeEncodeError:  # half of a surrogate pair, as in broken JSON
        return _infer([_replace_surrogates(value) for value in texts])
    except pa.ArrowException as error:
        raise _make_type_error(texts) from error


def _replace_surrogates(value: Any) -> Any:
    """Replace characters of a text that cannot be encoded by ``?``; other values stay."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return value


def _make_type_error(texts: Any) -> UserError:
    """Make the error about the first value that is not a text."""
    place = 0
    wrong = math.nan  # if no value is found: an Arrow array of numbers, all of them NaN
    for number, item in enumerate(texts):
        value = item.as_py() if isinstance(item, pa.Scalar) else item
        if not _is_text_or_missing(value):
            place = number
            wrong = value
            break
    hint = "decode it" if isinstance(wrong, bytes) else "give strings, or None for no text"
    shown = reprlib.repr(wrong)
    return UserError(f"text {place} is {shown} of type {type(wrong).__name__}", hint=hint)


def _is_text_or_missing(value: Any) -> bool:
    """Whether a value is a string, or stands for no text: None, NaN or ``pd.NA``."""
    if isinstance(value, str):
        return True
    return not isinstance(value, Iterable) and _is_missing(value)


def _is_missing(value: Any) -> bool:
    """Whether a single value is None, NaN or ``pd.NA``."""
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        return bool(pandas.isna(value))
    return value is None or bool(value != value)  # only NaN differs from itself


def _is_of_pandas(value: Any, kind: str) -> bool:
    """Whether a value is a ``Series`` or a ``DataFrame``; pandas is not imported to find out."""
    return isinstance(value, getattr(sys.modules.get("pandas"), kind, ()))
