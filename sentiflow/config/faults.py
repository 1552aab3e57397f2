"""Faults in settings, and missing settings -> one line each: where, what, and the way out."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic.fields import FieldInfo

from sentiflow.config.sections import ORDERED_HEADLINES, Config
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
"""Names of settings in other programs, and our name of each."""

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
"""Place of a setting in an error of pydantic: names, positions in a list, kinds of a section."""
Path = tuple[str, ...]
"""Names of the sections that a setting is in, then the name of the setting."""


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
        """Return the place of a setting; if it is missing, the place of its section.

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
    """Return the path of a setting: its location without kinds of a section."""
    *sections, last = [str(part) for part in location]
    names = [section for section in sections if section not in KINDS]
    return (*names, last)


def explain(fault: Any, source: SettingsSource) -> str:
    """Describe a fault in one line: its place, the setting, what is wrong, and a way out.

    Args:
        fault: One of the faults of a :class:`pydantic.ValidationError`.
        source: Where the settings were typed.
    """
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
    """Suggest the setting that was probably meant, or else list all settings of the section."""
    *sections, name = [str(part) for part in location]
    if sections and sections[-1] in KINDS:
        for kind, section in KINDS.items():
            if name in section.model_fields:
                return f"it belongs to kind: {kind}"
    parent = _path_of(location)[:-1]
    distinct = dict.fromkeys(path for path, _ in walk())
    paths = sorted(distinct, key=len)  # outer settings first
    below = [path for path in paths if path[: len(parent)] == parent]
    similar_to = _SYNONYMS.get(name.lower(), name).lower()
    meant = _find_close(similar_to, below, cutoff=0.6)
    if meant is None:  # among all settings: stricter, because more names are similar by chance
        meant = _find_close(similar_to, paths, cutoff=0.8)
    if meant is not None:
        return f"did you mean {'.'.join(meant)}?"
    names_in_section = [path[-1] for path in below if len(path) == len(parent) + 1]
    return f"known here: {', '.join(names_in_section)}"


def _find_close(name: str, paths: Sequence[Path], *, cutoff: float) -> Path | None:
    """Find the setting whose name is most similar to ``name``; None if none is similar enough."""
    names = [path[-1] for path in paths]
    close = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return paths[names.index(close[0])] if close else None


def walk(section: type[Settings] = Config, path: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Yield the path and the field of every section and setting, in the order of the source."""
    for name, info in section.model_fields.items():
        yield (*path, name), info
        for kind in sections_in(info):
            yield from walk(kind, (*path, name))


def sections_in(info: FieldInfo) -> list[type[Settings]]:
    """List the types of section that a field accepts; empty if the field is a value."""
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
        UserError: Required settings are missing, or a whole run is asked for predictions of another
            program.
    """
    prepare = config.prepare
    score = config.score
    if command == "run" and score.predictions:
        raise UserError(
            f"{source}: sentiflow run makes a model, and score.predictions names the predictions "
            "of another program",
            hint="sentiflow trends measures their shares",
        )
    missing = []
    if command in ("prepare", "run") and not prepare.csv:
        missing.append("prepare.csv")
    if command == "score" and not prepare.csv:
        has_corpus = not score.reads_prepared or score.prepared_uri or prepare.output_uri
        if not has_corpus:
            missing.append("score.corpus")
        has_predictions = score.model_uri or score.predictions
        if not has_predictions and "train" not in config.model_fields_set:
            missing.append("score.model_uri")
    if missing:
        values = " ".join(f"{name}=VALUE" for name in missing)
        hint = f"add what is missing, or give {values}"
        if command == "run" and not score.reads_prepared:
            hint += "; sentiflow score scores the corpus without training"
        raise UserError(f"{source}: sentiflow {command} needs {' and '.join(missing)}", hint=hint)


def check_headline(config: Config, source: SettingsSource) -> None:
    """Check that the classes have the order that ``evaluate.headline`` may need.

    Raises:
        UserError: They have none.
    """
    headline = config.evaluate.headline
    formats = [config.format, config.score.format]
    is_ordered = any(form is not None and form.ordered for form in formats)
    if headline in ORDERED_HEADLINES and not is_ordered:
        raise UserError(
            f"{source.locate(('evaluate', 'headline'))}: evaluate.headline={headline!r}: the "
            "classes have no order",
            hint="set format.ordered: true if they are numbers, such as stars; or name accuracy or "
            "f1_macro",
        )


def check_slices(config: Config, *, source: str) -> None:
    """Check that predictions will have the columns and texts that ``evaluate.slices`` needs.

    Predictions that another config makes are not checked.

    Raises:
        UserError: A column or the texts will be missing.
    """
    prepare = config.prepare
    score = config.score
    slices = config.evaluate.slices
    if config.evaluate.scored_uri != score.output_uri:
        return
    scores_prepared = score.reads_prepared
    columns = [*score.keep_columns, *PREDICTED]
    section = "score"
    if scores_prepared:
        if not prepare.csv or score.prepared_uri != prepare.output_uri:
            return  # another config prepares the tweets
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
    if slices.patterns and not scores_prepared and not has_texts:
        raise UserError(
            f"{source}: evaluate.slices.patterns need the texts, which predictions will not have",
            hint="name text in score.keep_columns, too",
        )
