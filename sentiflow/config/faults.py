"""Faults in settings, and missing settings -> a line for each: where, what, and the way out."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic.fields import FieldInfo

from sentiflow.config.sections import Config
from sentiflow.config.train_sections import KINDS
from sentiflow.config.types import Settings
from sentiflow.errors import UserError, shorten
from sentiflow.storage.uris import without_credentials

_MAX_VALUE = 200
"""Maximum length of a wrong value in a message, in characters."""

_SYNONYMS = {
    "batch_size": "global_batch_size",
    "csv": "corpus",
    "data": "csv",
    "epochs": "num_epochs",
    "experiment": "name",
    "files": "csv",
    "input": "csv",
    "lr": "learning_rate",
    "n_epochs": "num_epochs",
    "output": "output_uri",
    "output_dir": "output_uri",
    "random_state": "seed",
    "sep": "delimiter",
    "separator": "delimiter",
    "workers": "num_workers",
}
"""Names that other programs give to a setting, and the setting."""

PREDICTED = (
    "row_id",
    "tweet_id",
    "split",
    "label",
    "prediction",
    "predicted_label",
    "confidence",
    "probability",
    "num_tokens",
    "unsure",
    "model_version",
)
"""Columns of all predictions. There is also a column ``probability_<class>`` for each class."""

Location = tuple[int | str, ...]
"""Place of a setting as pydantic gives it: names, positions in a list, and kinds of a section."""
Path = tuple[str, ...]
"""Names of the sections of a setting, then the name of the setting."""


@dataclass(frozen=True)
class SettingsSource:
    """Where settings were typed."""

    name: str
    """The file, or the function that was called."""
    lines: Mapping[Path, int] = field(default_factory=dict)
    """The line of each setting in the file."""
    overrides: Sequence[str] = ()
    """Keys that were given in addition to the file."""
    place_of_overrides: str = "command line"
    """Where the overrides were typed."""

    def locate(self, location: Location) -> str:
        """Name the place of a setting; if it is missing, the place of its section.

        Example:
            >>> lines = {("train",): 3, ("train", "seed"): 4}
            >>> source = SettingsSource("mine.yaml", lines, ["train.lr"])
            >>> source.locate(("train", "lr")), source.locate(("train", "seed"))
            ('command line', 'mine.yaml, line 4')
        """
        path = _path_of(location)
        for override in self.overrides:
            key = tuple(override.split("."))
            if path[: len(key)] == key or key[: len(path)] == path:  # one contains the other
                return self.place_of_overrides
        for size in range(len(path), 0, -1):
            if path[:size] in self.lines:
                return f"{self.name}, line {self.lines[path[:size]]}"
        return self.name


def _path_of(location: Location) -> Path:
    """List the names of a location, without the kinds of a section."""
    *sections, last = map(str, location)
    names = [section for section in sections if section not in KINDS]
    return (*names, last)


def explain(fault: Any, source: SettingsSource) -> str:
    """Describe a fault that pydantic has found in one line."""
    location = tuple(fault["loc"])
    key = ".".join(_path_of(location))
    place = source.locate(location)
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown setting {key}: {_suggest(location)}"
    if fault["type"] == "missing":
        return f"{source.name}: the setting {key} is missing: add it, or give {key}=VALUE"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if isinstance(fault["input"], Mapping):  # the rule is about several settings of a section
        return f"{place}: {key}: {message}"
    value = shorten(without_credentials(repr(fault["input"])), _MAX_VALUE)
    return f"{place}: {key}={value}: {message}"


def _suggest(location: Location) -> str:
    """Name the setting that was probably meant, or else all settings of the section."""
    *sections, name = map(str, location)
    if sections and sections[-1] in KINDS:
        for kind, section in KINDS.items():
            if name in section.model_fields:
                return f"it belongs to kind: {kind}"
    path = _path_of(location)[:-1]
    keys = sorted(dict.fromkeys(key for key, _ in walk()), key=len)  # outer settings first
    below = [key for key in keys if key[: len(path)] == path]
    name = _SYNONYMS.get(name.lower(), name).lower()
    meant = _find_close(name, below, cutoff=0.6) or _find_close(name, keys, cutoff=0.8)
    if meant:
        return f"did you mean {'.'.join(meant)}?"
    here = [key[-1] for key in below if len(key) == len(path) + 1]
    return f"known here: {', '.join(here)}"


def _find_close(name: str, keys: Sequence[Path], *, cutoff: float) -> Path | None:
    """Find the setting whose name is most similar to ``name``, if the similarity is enough."""
    names = [key[-1] for key in keys]
    close = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return keys[names.index(close[0])] if close else None


def walk(section: type[Settings] = Config, path: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Go through every section and its settings, in the order of the source."""
    for name, info in section.model_fields.items():
        yield (*path, name), info
        for kind in sections_in(info):
            yield from walk(kind, (*path, name))


def sections_in(info: FieldInfo) -> list[type[Settings]]:
    """List the section of a field, or the kinds of section that it accepts; none for a value."""
    sections = []
    for annotation in (info.annotation, *get_args(info.annotation)):
        arguments = get_args(annotation)  # of Annotated[RnnSettings, Tag("rnn")]
        kind = arguments[0] if arguments else annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            sections.append(kind)
    return sections


def check_given(config: Config, command: str, *, source: str) -> None:
    """Check that the settings that a command requires are given.

    Raises:
        UserError: Some are missing.
    """
    prepare = config.prepare
    score = config.score
    missing = []
    if command in ("prepare", "run") and not prepare.csv:
        missing.append("prepare.csv")
    if command == "score" and not prepare.csv:
        has_corpus = not score.reads_prepared or score.prepared_uri or prepare.output_uri
        if not has_corpus:
            missing.append("score.corpus")
        if not score.model_uri and "train" not in config.model_fields_set:
            missing.append("score.model_uri")
    if missing:
        values = " ".join(f"{name}=VALUE" for name in missing)
        raise UserError(
            f"{source}: sentiflow {command} needs {' and '.join(missing)}",
            hint=f"add what is missing, or give {values}",
        )


def check_slices(config: Config, *, source: str) -> None:
    """Check that predictions will have the columns and texts that ``evaluate.slices`` needs.

    Predictions that another config makes are not checked.

    Raises:
        UserError: They will not have them.
    """
    prepare = config.prepare
    score = config.score
    slices = config.evaluate.slices
    if config.evaluate.scored_uri != score.output_uri:
        return
    are_prepared = score.reads_prepared
    columns = [*score.keep_columns, *PREDICTED]
    section = "score"
    if are_prepared:
        if not prepare.csv or score.prepared_uri != prepare.output_uri:
            return
        columns = [*prepare.keep_columns, *columns]
        section = "prepare"
    missing = []
    for name in slices.columns:
        if name not in columns and not name.startswith("probability_"):
            missing.append(name)
    if missing:
        raise UserError(
            f"{source}: evaluate.slices.columns: predictions will have no column "
            f"{', '.join(missing)}; their columns are {', '.join(dict.fromkeys(columns))}",
            hint=f"name the column in {section}.keep_columns, too",
        )
    has_texts = "text" in score.keep_columns or score.text_column in score.keep_columns
    if slices.patterns and not are_prepared and not has_texts:
        raise UserError(
            f"{source}: evaluate.slices.patterns need the texts, which predictions will not have",
            hint="name text in score.keep_columns, too",
        )
