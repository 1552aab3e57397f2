"""Prepare settings -> the corpora to read: described, then cut into parts."""

import functools
from dataclasses import dataclass

from sentiflow.cluster.map_stages import MapStages
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.sections import Config, PrepareSettings
from sentiflow.data import corpus, corrections, input_files, required_columns, table_plans
from sentiflow.data.manifest_types import Input
from sentiflow.errors import UserError
from sentiflow.progress import say
from sentiflow.storage.uris import join

STAGE = "prepare"


@dataclass(frozen=True)
class Source:
    """Input files of a preparation."""

    name: str
    """Name of the input in the manifest."""
    setting: str
    """The setting that names the files."""
    files: tuple[str, ...]
    """Files and globs."""
    format: FormatSettings


def labelled(config: Config) -> Source:
    """Name the files of labelled rows."""
    return Source("csv", "prepare.csv", config.prepare.csv, config.format)


def unlabelled(settings: PrepareSettings) -> Source:
    """Name the files of unlabelled texts, of which there may be none."""
    found = settings.unlabelled
    return Source("unlabelled", "prepare.unlabelled.files", found.files, found.resolved_format)


def describe_corrections(settings: PrepareSettings, *, known: Input | None) -> Input:
    """Describe the files of ``prepare.corrections``, as :func:`describe` does.

    Raises:
        UserError: One does not exist.
    """
    uris = input_files.expand(settings.corrections, setting=corrections.SETTING, known=known)
    return input_files.describe(uris, known=known) if uris or not known else known


def describe(source: Source, *, known: Input | None) -> Input:
    """Describe the files; they are read only if they have changed since last time.

    Args:
        source: The files.
        known: Their description in a complete result.

    Raises:
        UserError: One does not exist, all are empty, or there are both CSV and Parquet.
    """
    uris = input_files.expand(source.files, setting=source.setting, known=known)
    if known and not uris:
        return known
    corpus.are_tables(uris, setting=source.setting)
    found = input_files.describe(uris, known=known) if known else input_files.as_found(uris)
    if not any(item["bytes"] for item in found["files"]):
        raise UserError(f"{uris[0]} holds no record", hint="the file is empty: name another CSV")
    return found


def cut(
    source: Source, found: Input, settings: PrepareSettings, maps: MapStages, root: str
) -> corpus.Corpus:
    """Cut the files into parts, and check that they have the required columns.

    Args:
        source: The files.
        found: Their description.
        settings: The section ``prepare``.
        maps: Reads the files, unless they are small.
        root: Has a folder for the content of compressed files.

    Raises:
        UserError: A column is missing, or there is no record.
    """
    files, is_labelled = found["files"], source.name == "csv"
    name, folder = ("read_files", "unpacked") if is_labelled else ("read_unlabelled", "more")
    map_files = functools.partial(maps.map, name, key=input_files.identify_state(found))
    if corpus.are_tables([item["uri"] for item in files], setting=source.setting):
        keep = settings.keep_columns if is_labelled else ()
        plan: corpus.Plan = table_plans.plan_preparation(
            files, settings=source.format, keep_columns=keep
        )
    else:
        plan = corpus.plan_csv(
            files,
            settings=source.format,
            rows_per_part=settings.rows_per_file,
            unpack_to=join(root, folder),
        )
    if is_labelled:
        required_columns.check_preparation(plan, settings)
    cut = corpus.cut(plan, rows_per_part=settings.rows_per_file, map_files=map_files)
    if not cut.num_rows:
        raise UserError(f"{files[0]['uri']} holds no record", hint="it has no row")
    for note in cut.notes:
        say(STAGE, note)
    return cut
