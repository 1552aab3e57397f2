"""Sections of the settings that describe files: their kind, columns and labels."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from sentiflow.config.class_names import BINARY, SENTIMENT140, UNLABELLED, Labels, order_classes
from sentiflow.config.ordered_classes import ClassValues, find_values, sort_by_value
from sentiflow.config.types import ADDED, Column, Encoding, RequiredColumn, Settings

_DIRECTIVES = "aAbBdfGHIjmMpSuUVwWyYzZ"
"""Directives of strptime that pandas reads."""


class ColumnsSettings(Settings):
    """The column of each meaning: its name in the header, or its position counted from 0."""

    text: RequiredColumn
    """Column with the text."""
    label: Column = None
    """Column with the label. Default: none; all rows are unlabelled."""
    id: Column = None
    """Column with the id of the text, which becomes ``tweet_id``. Default: none."""
    user: Column = None
    """Column with the author, required by ``prepare.split.kind: user``. Default: none."""
    time: Column = None
    """Column with the time of writing, required by ``prepare.split.kind: time``. Default: none."""


class FormatSettings(Settings):
    """Format of the input files."""

    section: ClassVar[str] = "format"
    """Key of this section, for messages."""
    default_columns: ClassVar[tuple[str, ...]] = ("text", "label")
    """Columns that Parquet files must have if ``columns`` is not set."""

    kind: Literal["sentiment140", "csv"] = "sentiment140"
    """Format of the input files. ``sentiment140``: the columns target, id, date, flag, user, text
    without a header, and the targets 0, 2 and 4. Parquet files have the columns text, label,
    tweet_id (or id), user and time, and the labels 0, 1, 2 or negative, positive, neutral. ``csv``:
    files, also Parquet, that ``columns``, ``labels``, ``header`` and ``delimiter`` describe."""
    columns: ColumnsSettings | None = None
    """``csv``: the column of each meaning."""
    labels: Labels | None = None
    """``csv``: the classes, under any names, each with the value that means it in the files, or a
    list of such values: ``{negative: [n, neg], positive: p}``. ``unlabelled`` lists the values that
    mean no label; default: an empty one. Unlabelled rows are scored, but never trained on. Rows
    with any other value are rejected. ``auto``: every value is the name of a class, except an empty
    one and ``unlabelled``, which mean no label. Surrounding white space is ignored. Without
    ``columns.label`` they name the classes of other files: of ``score.predictions``, of labels."""
    ordered: Annotated[bool, ADDED] = False
    """``csv``: whether the classes have an order and a distance, such as 1 to 5 stars. Their order
    is that of ``labels``; with ``labels: auto`` they are sorted by their numbers. The number of a
    class is in its name (``3``, ``0.5``, ``3 stars``, ``★★★``), unless ``values`` has it."""
    values: Annotated[ClassValues | None, ADDED] = None
    """With ``ordered: true``: the numbers of classes whose names have none: ``{bad: 1, good: 5}``.
    They must rise or fall from class to class. Default: the numbers in the names."""
    header: bool | None = None
    """``csv``: whether the first record holds the names of the columns. Default: true if
    ``columns`` has a name."""
    delimiter: str = ","
    """``csv``: the character between columns, such as ``;`` or a tab. It must be one ASCII
    character."""
    time_format: str | None = None
    """``csv``: format of the time column for strptime, such as ``%d/%m/%Y %H:%M``. Default: ISO
    8601 (``20240131`` is a date), or else seconds since 1970 (of 13 digits: milliseconds)."""
    encoding: Encoding = "utf-8"
    """Character encoding of the files: ``utf-8``, ``latin-1`` or ``cp1252``, or another name that
    Python has for one of them, such as ``latin1`` or ``windows-1252``. UTF-16 is recognized by its
    byte order mark and needs no setting."""
    errors: Literal["replace", "ignore"] = "replace"
    """Treatment of bytes that are invalid in ``encoding``: ``replace`` them by U+FFFD, or
    ``ignore`` them, that is, drop them."""
    max_text_length: int = Field(default=10_000, ge=1)
    """Maximum length of a text in characters. Rows with a longer text are rejected."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of all classes in order; empty without labels; None for ``auto``."""
        if self.kind == "sentiment140":
            return SENTIMENT140
        if self.labels == "auto":
            return None
        names = tuple(name for name in self.labels or () if name != UNLABELLED)
        return names if self.ordered else order_classes(names)

    @property
    def class_values(self) -> tuple[float, ...] | None:
        """The numbers of ordered classes, in the order of ``classes``.

        None if the classes have no order, or if ``labels: auto`` has not named them yet.

        Raises:
            ValueError: A class that ``labels: auto`` has found has no number.
        """
        if not self.ordered or not self.classes:
            return None
        return find_values(self.classes, self.values)

    @property
    def learnable(self) -> tuple[str, ...]:
        """The classes that a model can learn: their rows are encoded.

        These are all classes, but for ``sentiment140`` only negative and positive. For ``auto`` it
        is empty until :meth:`name_classes` has named the classes.
        """
        if self.kind == "sentiment140":
            return BINARY
        return self.classes or ()

    def name_classes(self, names: Iterable[str]) -> "FormatSettings":
        """Replace ``labels: auto`` by classes whose values are their names.

        Raises:
            ValueError: The classes are ordered, and one has no number.
        """
        if self.ordered:
            names = sort_by_value(names, self.values)
            find_values(names, self.values)
        labels: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
        labels[UNLABELLED] = ("", UNLABELLED)
        return self.model_copy(update={"labels": labels})

    @property
    def has_header(self) -> bool:
        """Whether the first record of each file holds the names of the columns."""
        if self.header is not None:
            return self.header
        return bool(self._column_names)

    @property
    def _column_names(self) -> list[str]:
        """The columns that are given by name, not by position."""
        columns = dict(self.columns or {}).values()
        return [column for column in columns if isinstance(column, str)]

    @model_validator(mode="after")
    def _check_kind(self) -> "FormatSettings":
        if self.kind == "sentiment140":
            for name in ("columns", "labels", "header", "time_format"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs kind: csv")
            if self.delimiter != ",":
                raise ValueError("delimiter needs kind: csv")
            if self.ordered:
                raise ValueError("ordered needs kind: csv")
            return self
        if self.columns is None:
            raise ValueError("kind: csv needs columns, such as columns: {text: 0}")
        if self.time_format is not None:
            _check_time_format(self.time_format)
        if self.columns.label is not None and self.labels is None:
            raise ValueError("columns.label needs labels, such as labels: auto")
        if self.columns.label is None and self.labels == "auto":
            raise ValueError(
                "labels: auto reads the names of the classes from columns.label, which is not set: "
                "set it, or name the classes, such as labels: {negative: neg, positive: pos}"
            )
        self._check_order()
        if len(self.delimiter) != 1 or not self.delimiter.isascii():
            raise ValueError(f"delimiter {self.delimiter!r} is not one ASCII character")
        if self.delimiter in '"\r\n':
            raise ValueError(
                f"delimiter {self.delimiter!r} separates nothing: it quotes a value or ends a line"
            )
        if self.header is False and self._column_names:
            raise ValueError(f"column {self._column_names[0]!r} is a name, but header is false")
        return self

    def _check_order(self) -> None:
        """Check that ordered classes have numbers, and that only they have.

        Raises:
            ValueError: They do not.
        """
        if not self.ordered:
            if self.values is not None:
                raise ValueError("values needs ordered: true")
            return
        if self.labels is None:
            raise ValueError(
                "ordered needs labels, in the order of the classes, such as labels: {'1': 1, '2': "
                "2, '3': 3}; they need no columns.label"
            )
        if self.classes is not None:
            find_values(self.classes, self.values)


def _check_time_format(time_format: str) -> None:
    """Check that a format has directives of strptime, each once.

    Raises:
        ValueError: It has none, an unknown one, or one twice.
    """
    counts = Counter(re.findall("%(.?)", time_format.replace("%%", "")))
    if not counts:
        raise ValueError(f"time_format {time_format!r} has no directive, such as %d, %m or %Y")
    for directive, times in counts.items():
        if not directive or directive not in _DIRECTIVES:
            raise ValueError(f"time_format {time_format!r}: %{directive} is no directive")
        if times > 1:
            raise ValueError(f"time_format {time_format!r} has %{directive} twice")


class UnlabelledFormat(FormatSettings):
    """Format of unlabelled files, by default with a column ``text``; labels are never read."""

    section: ClassVar[str] = "prepare.unlabelled.format"
    default_columns: ClassVar[tuple[str, ...]] = ("text",)

    kind: Literal["sentiment140", "csv"] = "csv"
    columns: ColumnsSettings | None = ColumnsSettings(text="text")

    @model_validator(mode="before")
    @classmethod
    def _leave_columns_out(cls, value: Any) -> Any:
        """Remove the default columns for ``sentiment140``, which has fixed columns."""
        if isinstance(value, dict) and value.get("kind") == "sentiment140":
            return {"columns": None} | value
        return value
