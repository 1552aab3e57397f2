"""Inspected files -> a config that reads them, with settings that suit their rows and classes."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jinja2
import yaml

from sentiflow.data import partitions, row_checks
from sentiflow.data.inspection.column_names import split_name
from sentiflow.data.inspection.findings import (
    Inspection,
    count_rare,
    list_rejected,
    one_or_list,
    to_format,
)
from sentiflow.storage import globs
from sentiflow.storage.uris import absolute_uri, is_local, split_key, split_member

_SMALL_ROWS = 1000
"""Below this number of rows, batches of 32 are better than batches of 64, which are faster."""
_MEDIUM_ROWS = 20_000
"""Above this number of rows, batches of 128 are as good as batches of 64, and faster."""
_FEW_STATES_ROWS = 20_000
"""Up to this number of rows, 64 states read characters and long texts as well as 128, in half the
time: see benchmarks/LOG.md."""
_LARGE_ROWS = 100_000
"""Above this number of rows, the config has the preset ``best``, which pretrains."""
_MIN_ROWS_WITHOUT_FOLDS = 3000
"""Below this number of labelled rows, cross-validation is used: the test rows are too few."""
_STEPS = 250
"""Optimizer steps that a network needs with any number of classes: see benchmarks/LOG.md."""
_STEPS_PER_CLASS = 15
"""Additional optimizer steps for each class."""
_MIN_EPOCHS = 4
"""Minimum of ``train.num_epochs``."""
_MIN_CHARACTER_EPOCHS = 8
"""The same for a network that reads characters, which has to learn words: see benchmarks/LOG.md."""
_MAX_EPOCHS = 20
"""Maximum of ``train.num_epochs``."""
_MIN_DAYS = {"month": 90, "week": 21, "day": 2, "hour": 0}
"""Minimum number of days between first and last time for each unit of ``trends.by``."""
_LANGUAGE = {"language", "lang", "sprache", "langue", "idioma", "lingua", "locale", "taal", "язык"}
"""Words in the name of a column that holds the language of a text."""
MAX_REJECTED = 0.2
"""Maximum share of rejected rows that the config allows."""
_WORD_CATEGORIES = ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd")
"""Unicode categories of letters, digits, and marks of letters, which Python's ``\\w`` lacks."""
_SUFFIXES = re.compile(r"(\.(csv|tsv|txt|tab|parquet|gz|zst|zip))+$", re.IGNORECASE)
"""Suffixes of input files, such as ``.csv.gz``; the name of an experiment does not have them."""
_FEW_REJECTED = 0.005
"""Share of rejected rows up to which the config keeps the default of the maximum."""
_REJECTED_MARGIN = 1.5
"""Factor by which the maximum share of rejected rows exceeds the share in the sample."""
_UNBALANCED = 1.5
"""Minimum ratio of the largest class to the smallest that counts as unbalanced."""


def name_after(uri: str) -> str:
    """Derive the name of an experiment from the name of a file.

    Example:
        >>> name_after("s3://bucket/inbox/Messages 2024.csv.gz"), name_after("a.zip::b/c.csv")
        ('Messages_2024', 'c')
        >>> name_after("ข้อความ (1).csv")
        'ข้อความ_1'
    """
    archive, member = split_member(uri)
    file_name = (member or archive).rpartition("/")[2]
    kept = ""
    for character in _SUFFIXES.sub("", file_name):
        is_kept = character in ".-" or unicodedata.category(character) in _WORD_CATEGORIES
        kept += character if is_kept else "_"
    return re.sub("_+", "_", kept).strip("_.-") or "messages"


def render(
    inspection: Inspection,
    *,
    files: Sequence[str],
    name: str,
    origin: str,
    model_uri: str | None,
    test: Sequence[str] = (),
    max_length: int | None = None,
    cuts_middle: bool = False,
    reason_for_characters: str = "",
) -> str:
    """Return the text of a config that reads the inspected files.

    Args:
        inspection: The inspected files.
        files: The input files as the user has typed them.
        name: Name of the experiment.
        origin: The first line, a comment.
        model_uri: A model to score with; then nothing is trained.
        test: Files of test rows, as the user has typed them.
        max_length: ``prepare.max_length``, if the default is too low for the texts.
        cuts_middle: Whether ``prepare.cut`` is ``middle``, as many texts are longer than that.
        reason_for_characters: Why the network reads characters; empty if it reads words.
    """
    counts = inspection.label_counts
    trains = bool(counts) and model_uri is None
    uris = inspection.sample.uris
    of_any_folder = {name for uri in uris for name in partitions.find(uri)}
    # a column that a folder names, too, cannot be kept
    keep = [name for name in inspection.roles.keep if name not in of_any_folder]
    time_columns = _name_times(inspection, trains=trains)
    time_columns = [name for name in time_columns if name not in of_any_folder]
    in_files = {str(name) for name in inspection.sample.names}
    of_folders = partitions.find_shared((uri, ()) for uri in uris) - in_files
    return _load_template().render(
        origin=origin,
        name=name,
        output=_choose_output(files, name),
        is_table=inspection.sample.dialect is None,
        format=to_format(inspection),
        rows=counts,
        is_exact=inspection.sample.is_whole,
        trains=trains,
        files=one_or_list(files),
        test=one_or_list(test) if test else "",
        roles=inspection.roles,
        has_sure_times=inspection.has_sure_times,
        keep=keep,
        of_folders=sorted(of_folders),
        times=time_columns,
        by=_choose_groups(inspection, keep, time_columns),
        max_rejected=_choose_max_rejected(inspection),
        rejected=list_rejected(inspection),
        model_uri=model_uri,
        max_length=max_length,
        cuts_middle=cuts_middle,
        reason_for_characters=reason_for_characters,
        **_choose_training(
            inspection, reads_characters=bool(reason_for_characters), cuts_middle=cuts_middle
        ),
    )


def _choose_output(files: Sequence[str], name: str) -> str:
    """Choose ``output_uri``: for files in an object store a folder there, which all nodes reach.

    If the globs of the input would match the results there, it is a folder of this machine, too.
    """
    here = f"runs/{name}"
    first = absolute_uri(files[0])
    if is_local(first):
        return here
    store, _ = split_key(first)
    output = f"{store}{here}"
    results = [f"{output}/trials.csv"]
    for path in ("part.parquet", "scored/predictions/part.parquet"):
        results.append(f"{output}/{path}")
    patterns = [absolute_uri(file) for file in files]
    is_input = any(globs.matches(uri, pattern) for uri in results for pattern in patterns)
    return here if is_input else output


def _load_template() -> jinja2.Template:
    """Load the template of a config; a variable that is not given is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sentiflow.data.inspection"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701
    )
    environment.filters["flow"] = _flow
    return environment.get_template("new_config.yaml.j2")


def _name_times(inspection: Inspection, *, trains: bool) -> list[str]:
    """List the name that the column of times has in the predictions; empty if there is none."""
    column = inspection.roles.time
    if column is None:
        return []
    is_table = inspection.sample.dialect is None
    if is_table and not trains:
        return [str(column)]  # scored Parquet files keep the names of their columns
    return ["time"]


def _choose_groups(
    inspection: Inspection, keep: Sequence[str], time_columns: Sequence[str]
) -> list[str]:
    """Choose ``trends.by``: the column of the language, if there is one, and a unit of time.

    Args:
        inspection: The inspected files.
        keep: The columns to keep.
        time_columns: The column of times that is kept; empty if there is none.
    """
    if not time_columns:
        return []
    days = 0
    if inspection.times:
        days = (inspection.times.last - inspection.times.first).days
    unit = next(unit for unit, min_days in _MIN_DAYS.items() if days >= min_days)
    languages = [name for name in keep if {*split_name(name)} & _LANGUAGE]
    return [*languages[:1], f"{time_columns[0]}:{unit}"]


def _choose_max_rejected(inspection: Inspection) -> float | None:
    """Choose ``prepare.max_rejected_fraction``, with a margin for rows outside the sample.

    Rows with an unknown label do not count: many of them are a mistake in the config.

    Returns:
        None to keep the default, because few rows are rejected, or more than a config should allow.
    """
    rejected = {**inspection.rejected, row_checks.UNKNOWN_LABEL: 0}
    fraction = replace(inspection, rejected=rejected).rejected_fraction
    if _FEW_REJECTED < fraction <= MAX_REJECTED:
        return round(_REJECTED_MARGIN * fraction + 0.005, 2)  # 0.005: rounded up
    return None


def _choose_training(
    inspection: Inspection, *, reads_characters: bool, cuts_middle: bool
) -> dict[str, Any]:
    """Choose the settings of the training by the number of rows and classes.

    Args:
        inspection: The inspected files.
        reads_characters: Whether the network reads characters.
        cuts_middle: Whether it reads long texts, which it cuts in the middle.
    """
    counts = inspection.label_counts
    rare = count_rare(inspection)
    class_sizes = [rows for name, rows in counts.items() if name not in rare]
    num_rows = inspection.sample.num_rows
    batch_size = 64
    if num_rows < _SMALL_ROWS:
        batch_size = 32
    if num_rows > _MEDIUM_ROWS:
        batch_size = 128
    hidden_size = 128
    if (reads_characters or cuts_middle) and num_rows <= _FEW_STATES_ROWS:
        hidden_size = 64
    num_labelled = sum(counts.values()) * inspection.scale
    num_steps = _STEPS + _STEPS_PER_CLASS * len(class_sizes)
    num_epochs = math.ceil(num_steps * batch_size / max(1, num_labelled))
    min_epochs = _MIN_CHARACTER_EPOCHS if reads_characters else _MIN_EPOCHS
    return {
        "is_large": num_rows > _LARGE_ROWS,
        "has_folds": num_labelled < _MIN_ROWS_WITHOUT_FOLDS,
        "batch_size": batch_size,
        "hidden_size": hidden_size,
        "num_epochs": min(max(num_epochs, min_epochs), _MAX_EPOCHS),
        "is_unbalanced": bool(class_sizes) and max(class_sizes) >= _UNBALANCED * min(class_sizes),
    }


def _flow(value: Any) -> str:
    """Write a value as YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf")
    )
    return text.removesuffix("...\n").strip()  # YAML ends a single value with "..."
