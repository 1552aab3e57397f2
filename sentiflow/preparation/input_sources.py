"""Settings of prepare -> its input files: described first, then cut into parts."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentiflow.cluster.map_stages import MapStages
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.config.sections import Config
from sentiflow.data import column_checks, corpus, csv_plans, input_files, table_plans
from sentiflow.data.corrections import CORRECTIONS
from sentiflow.data.manifest_types import Input, InputFile
from sentiflow.errors import UserError
from sentiflow.progress import say
from sentiflow.storage import globs, retries
from sentiflow.storage.uris import join

STAGE = "prepare"


@dataclass(frozen=True, kw_only=True)
class InputSource:
    """The files of a corpus: of the labelled rows, or of the unlabelled texts."""

    described: Input
    setting: str
    """The settings that name the files, for messages."""
    format: FormatSettings
    is_labelled: bool
    splits: Mapping[str, str]
    """For each file with rows of only one split: its split, by URI."""


def find_labelled(config: Config, earlier: Input | None) -> InputSource:
    """Describe the files of labelled rows, see :func:`_describe`.

    Files of fixed splits come first: their rows keep their numbers when the other files change.
    """
    settings = config.prepare
    patterns = {
        "prepare.test": settings.test,
        "prepare.validation": settings.validation,
        "prepare.csv": settings.csv,
    }
    described = _describe(patterns, earlier)
    return InputSource(
        described=described,
        setting=" and ".join(name for name, globs in patterns.items() if globs),
        format=config.format,
        is_labelled=True,
        splits=_find_splits(patterns, described["files"]),
    )


def find_unlabelled(config: Config, earlier: Input | None) -> InputSource | None:
    """Describe the files of unlabelled texts, if there are any, see :func:`_describe`."""
    section = config.prepare.unlabelled
    if not section.files:
        return None
    setting = "prepare.unlabelled.files"
    return InputSource(
        described=_describe({setting: section.files}, earlier),
        setting=setting,
        format=section.resolved_format,
        is_labelled=False,
        splits={},
    )


def find_corrections(config: Config, earlier: Input | None) -> Input | None:
    """Describe the files of corrections, if there are any, with their hashes."""
    files = config.prepare.corrections
    if not files:
        return None
    return _describe({CORRECTIONS: files}, earlier, reads_new=True)


def _describe(
    patterns: Mapping[str, Sequence[str]], earlier: Input | None, *, reads_new: bool = False
) -> Input:
    """Describe files; they are read only if they have changed since last time.

    Without a complete result they are not read, because cutting them into parts reads them anyway.

    Args:
        patterns: Files and globs by the setting that names them, in the order of their rows.
        earlier: Their description in a complete result.
        reads_new: Read them also without a complete result, for files that are not cut.

    Raises:
        UserError: A file does not exist.
    """
    # A complete result stays usable after its input was deleted.
    if earlier and input_files.are_gone(earlier, list(itertools.chain(*patterns.values()))):
        return earlier
    found: dict[str, InputFile] = {}
    for setting, named in patterns.items():
        for item in input_files.find(named, setting=setting):
            # a glob of prepare.csv may match a file of prepare.test again: the first setting counts
            found.setdefault(item["uri"], item)
    files = list(found.values())
    if earlier or reads_new:
        known = earlier["files"] if earlier else []
        files = input_files.add_hashes(files, known=known)
    return input_files.combine(files)


def _find_splits(
    patterns: Mapping[str, Sequence[str]], files: Sequence[InputFile]
) -> dict[str, str]:
    """Find the split of each file that ``prepare.validation`` or ``prepare.test`` names, by URI."""
    found = {}
    for split in ("validation", "test"):  # test wins if a file is named for both
        for pattern in patterns[f"prepare.{split}"]:
            for item in files:
                if globs.matches(item["uri"], pattern):
                    found[item["uri"]] = split
    return found


def cut(
    source: InputSource, settings: PrepareSettings, maps: MapStages, root: str
) -> corpus.Corpus:
    """Cut the files into parts, and check that they have the required columns.

    Args:
        source: The files.
        settings: The section ``prepare``.
        maps: Runs the work on each file, unless the files are small.
        root: Directory in which unpacked content of compressed files gets a folder.

    Raises:
        UserError: A column is missing, there is no record, or there are both CSV and Parquet.
    """
    files = source.described["files"]
    if source.is_labelled:
        stage = "read_files"
        folder = "unpacked"
        keep = settings.additional_columns
    else:
        stage = "read_unlabelled"
        folder = "more"  # not the folder of the labelled files
        keep = ()

    def make_plan() -> corpus.Plan:
        if corpus.are_tables([item["uri"] for item in files], setting=source.setting):
            return table_plans.plan_preparation(files, settings=source.format, keep_columns=keep)
        return csv_plans.plan_csv(
            files,
            settings=source.format,
            rows_per_part=settings.rows_per_file,
            unpack_to=join(root, folder),
        )

    plan = retries.repeat_after_io_errors(make_plan, place=source.setting)
    if source.is_labelled:
        column_checks.check_preparation(plan, settings)
    key = corpus.identify_work(files)
    found = corpus.cut(
        plan,
        rows_per_part=settings.rows_per_file,
        map_files=functools.partial(maps.map, stage, key=key, unit=corpus.GROUPS),
        splits=source.splits,
    )
    if not found.num_rows:
        raise UserError(f"{files[0]['uri']} holds no record", hint="name a file with rows")
    for note in found.notes:
        say(STAGE, note)
    return found
