"""Faults in settings, and what a command lacks -> a line for each: where, what, and the way out."""

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
"""Characters of a wrong value that are shown."""

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
"""Names that others give to a setting."""

PREDICTED = (
    *("row_id", "tweet_id", "split", "label", "prediction", "predicted_label"),
    *("confidence", "probability", "num_tokens", "unsure", "model_version"),
)
"""Columns of all predictions; those of a class begin with ``probability_``."""

Location = tuple[int | str, ...]
"""Of a setting, as pydantic gives it: names, positions in a list, and kinds of a section."""
Path = tuple[str, ...]
"""Names of the sections of a setting, and its own."""


@dataclass(frozen=True)
class SettingsSource:
    """Where settings were typed."""

    name: str
    """The file, or the function that was called."""
    lines: Mapping[Path, int] = field(default_factory=dict)
    """The line of each setting in the file."""
    overrides: Sequence[str] = ()
    """Keys that were given beside the file."""
    place_of_overrides: str = "command line"
    """Where these were typed."""

    def locate(self, location: Location) -> str:
        """Name the place of a setting, or of the section that is to have it.

        Example:
            >>> source = SettingsSource("mine.yaml", {("train",): 3, ("train", "seed"): 4}, ["train.lr"])
            >>> source.locate(("train", "lr")), source.locate(("train", "seed"))
            ('command line', 'mine.yaml, line 4')
        """
        path = _path_of(location)
        typed = [tuple(key.split(".")) for key in self.overrides]
        if any(path[: len(key)] == key or key[: len(path)] == path for key in typed):
            return self.place_of_overrides
        sections = (path[:size] for size in range(len(path), 0, -1))
        line = next((self.lines[part] for part in sections if part in self.lines), None)
        return f"{self.name}, line {line}" if line else self.name


def _path_of(location: Location) -> Path:
    """List the names of a location, without the kinds of a section."""
    *sections, last = map(str, location)
    return (*(part for part in sections if part not in KINDS), last)


def explain(fault: Any, source: SettingsSource) -> str:
    """Write a fault in one line."""
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
    """Name the setting that was meant, or else those that there are."""
    *sections, name = map(str, location)
    others = [kind for kind, section in KINDS.items() if name in section.model_fields]
    if others and sections and sections[-1] in KINDS:
        return f"it belongs to kind: {others[0]}"
    path = _path_of(location)[:-1]
    keys = sorted(dict.fromkeys(path for path, _ in walk()), key=len)  # those of the top first
    name = _SYNONYMS.get(name.lower(), name)
    below = [key for key in keys if key[: len(path)] == path]
    for among, cutoff in ((below, 0.6), (keys, 0.8)):
        names = [key[-1] for key in among]
        for close in difflib.get_close_matches(name.lower(), names, n=1, cutoff=cutoff):
            return f"did you mean {'.'.join(among[names.index(close)])}?"
    return f"known here: {', '.join(key[-1] for key in below if len(key) == len(path) + 1)}"


def walk(section: type[Settings] = Config, path: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Go through every section and its settings, in the order of the source."""
    for name, info in section.model_fields.items():
        yield (*path, name), info
        for kind in sections_in(info):
            yield from walk(kind, (*path, name))


def sections_in(info: FieldInfo) -> list[type[Settings]]:
    """List the section of a field, or the kinds of section that it accepts."""
    kinds = [get_args(kind) or (kind,) for kind in (info.annotation, *get_args(info.annotation))]
    return [k for k, *_ in kinds if isinstance(k, type) and issubclass(k, Settings)]


def check_given(config: Config, command: str, *, source: str) -> None:
    """Check that the settings without which a command cannot run are given.

    Raises:
        UserError: Some are missing.
    """
    prepare, score = config.prepare, config.score
    scores_alone = command == "score" and not prepare.csv
    has_model = score.model_uri or "train" in config.model_fields_set
    has_corpus = score.corpus != ("prepared",) or score.prepared_uri or prepare.output_uri
    is_missing = {
        "prepare.csv": command in ("prepare", "run") and not prepare.csv,
        "score.corpus": scores_alone and not has_corpus,
        "score.model_uri": scores_alone and not has_model,
    }
    if missing := [name for name, is_so in is_missing.items() if is_so]:
        raise UserError(
            f"{source}: sentiflow {command} needs {' and '.join(missing)}",
            hint=f"add what is missing, or give {' '.join(f'{name}=VALUE' for name in missing)}",
        )


def check_slices(config: Config, *, source: str) -> None:
    """Check that predictions will have what ``evaluate.slices`` needs.

    Raises:
        UserError: These settings make the predictions, and keep another choice of columns.
    """
    prepare, score, evaluate = config.prepare, config.score, config.evaluate
    columns = [*score.keep_columns, *PREDICTED]
    is_known = evaluate.scored_uri == score.output_uri
    if from_prepared := score.corpus == ("prepared",):
        columns[:0] = prepare.keep_columns
        is_known &= bool(prepare.csv) and score.prepared_uri == prepare.output_uri
    missing = [
        name
        for name in evaluate.slices.columns
        if name not in columns and not name.startswith("probability_")
    ]
    if missing and is_known:
        raise UserError(
            f"{source}: evaluate.slices.columns: predictions will have no column "
            f"{', '.join(missing)}; their columns are {', '.join(dict.fromkeys(columns))}",
            hint=f"name the column in {'prepare' if from_prepared else 'score'}.keep_columns, too",
        )
    has_texts = {"text", score.text_column} & {*score.keep_columns}
    if evaluate.slices.patterns and is_known and not (from_prepared or has_texts):
        raise UserError(
            f"{source}: evaluate.slices.patterns need the texts, which predictions will not have",
            hint="name text in score.keep_columns, too",
        )
