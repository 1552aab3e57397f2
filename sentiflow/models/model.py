"""Texts of any container -> a DataFrame of predictions, by a model package in this process."""

import concurrent.futures
import functools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.models import average
from sentiflow.models import texts as text_arrays
from sentiflow.models.cpu import count_cores, one_thread
from sentiflow.models.scores import Scores
from sentiflow.models.texts import Texts
from sentiflow.storage.uris import as_typed

_CHUNK = 1 << 15
"""Texts scored at a time by one thread."""
_MAX_THREADS = 8
_THREADS_ON_GPU = 2
"""While one waits for the GPU, the other one tokenizes."""


@dataclass(frozen=True, repr=False)
class Model:
    """A trained model, ready to label texts; :func:`sentiflow.load_model` reads it.

    Example:
        >>> model = sentiflow.load_model("runs/quickstart")  # doctest: +SKIP
        >>> model.classes  # doctest: +SKIP
        ('negative', 'positive')
    """

    package: average.Model
    """Network, vocabulary and settings; or several of them, whose probabilities are averaged."""
    uri: str | tuple[str, ...]
    """The directory or the name that it was read from, or several."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the columns of :meth:`predict_proba`."""
        return self.package.settings.classes

    def predict(self, texts: Texts) -> pd.DataFrame:
        """Label texts, as ``score`` does with the rows of a file.

        Args:
            texts: A list, an iterator, a Series, an array of numpy or Arrow, or one text. None,
                NaN and ``pd.NA`` stand for no text.

        Returns:
            A row for each text, in their order, with the index of the Series:
            ``predicted_label``, ``probability`` (of positive, if the model has this class),
            ``probability_<class>`` for each class (float32), and ``num_tokens``, the number of
            words that the model knows. Where it is 0, the probabilities are the shares of the
            classes in training.

        Raises:
            UserError: Something in ``texts`` is no text.

        Example:
            >>> found = model.predict(["I love this place", "so sad"])  # doctest: +SKIP
            >>> found[["predicted_label", "num_tokens"]]  # doctest: +SKIP
              predicted_label  num_tokens
            0        positive           4
            1        negative           2
        """
        columns = self._score(texts).columns
        columns["predicted_label"] = columns["predicted_label"].to_pandas()
        found = pd.DataFrame(columns)
        return found.set_axis(texts.index) if isinstance(texts, pd.Series) else found

    def predict_proba(self, texts: Texts) -> np.ndarray:
        """Compute the probability of each class: ``(N, C)`` float32, columns as :attr:`classes`.

        Use it as a step of scikit-learn: ``FunctionTransformer(model.predict_proba)``.

        Example:
            >>> model.predict_proba(["good", "bad", "fine"]).shape  # doctest: +SKIP
            (3, 2)
        """
        return self._score(texts).probabilities

    def to(self, device: str) -> "Model":
        """Move the model to a device, such as ``cuda`` or ``cpu``."""
        return replace(self, package=self.package.to(device))

    def _score(self, texts: Texts) -> Scores:
        """Score texts piece by piece, on all cores or on the GPU."""
        pieces = text_arrays.to_arrays(texts, size=_CHUNK)
        on_cpu = self.package.device.type == "cpu"
        num_threads = min(count_cores(), _MAX_THREADS if on_cpu else _THREADS_ON_GPU)
        score = functools.partial(average.score_finite, self.package)
        with one_thread(), concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
            found = list(pool.map(score, pieces))
        return Scores.join(found or [self.package.score(pa.array([], pa.string()))])

    def __deepcopy__(self, memo: object) -> "Model":
        return self  # it does not change, and scikit-learn copies the steps of a pipeline

    def __repr__(self) -> str:
        uris = [self.uri] if isinstance(self.uri, str) else self.uri
        typed = ", ".join(repr(as_typed(uri)) for uri in uris)
        return f"Model({typed}, classes={list(self.classes)})"
