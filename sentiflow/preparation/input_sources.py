"""Prepare settings -> the corpora to read: described, then cut into parts."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentiflow.cluster.map_stages import MapStages
from sentiflow.config.format_sections import FormatSettings
from sentiflow.config.sections import Config, PrepareSettings
from sentiflow.data import corpus, input_files, manifest, table_plans
from sentiflow.data.label_files import CORRECTIONS
from sentiflow.data.manifest_types import Input, InputFile
from sentiflow.data.schema import SPLITS
from sentiflow.errors import UserError
from sentiflow.progress import say
from sentiflow.storage.uris import join

STAGE = "prepare"
CORRECTED = "corrections"
"""Name of the corrections among the inputs."""


@dataclass(frozen=True)
class InputSource:
    """Input files of a preparation."""

    name: str
    """Name of the input in the manifest."""
    files: Mapping[str, tuple[str, ...]]
    """Files and globs by the setting that names them, in the order of their rows."""
    format: FormatSettings

    @property
    def patterns(self) -> tuple[str, ...]:
        """The files and globs of all settings."""
        return tuple(itertools.chain.from_iterable(self.files.values()))


def list_all(config: Config) -> tuple[InputSource, InputSource, InputSource]:
    """Name the files of labelled rows, of unlabelled texts and of corrections.

    Of the last two there may be none. Labelled rows of fixed splits are first: they keep their
    numbers when the other files change.
    """
    settings = config.prepare
    unlabelled = settings.unlabelled
    labelled_files = {
        "prepare.test": settings.test,
        "prepare.validation": settings.validation,
        "prepare.csv": settings.csv,
    }
    return (
        InputSource("csv", labelled_files, config.format),
        InputSource(
            "unlabelled",
            {"prepare.unlabelled.files": unlabelled.files},
            unlabelled.resolved_format,
        ),
        InputSource(CORRECTED, {CORRECTIONS: settings.corrections}, config.format),
    )


def find_splits(source: InputSource, files: Sequence[InputFile]) -> dict[str, str]:
    """Find the split of each file of a fixed split, by URI."""
    found = {}
    for split in SPLITS[1:]:  # the test split is last: it wins if a file is named for both
        for pattern in source.files.get(f"prepare.{split}", ()):
            for item in files:
                if input_files.matches(item["uri"], pattern):
                    found[item["uri"]] = split
    return found


def describe(source: InputSource, *, earlier: Input | None) -> Input:
    """Describe the files; they are read only if they have changed since last time.

    Without a complete result they are not read here, since they are read when they are cut.
    Corrections are not cut.

    Args:
        source: The files.
        earlier: Their description in a complete result.

    Raises:
        UserError: One does not exist.
    """
    if earlier and input_files.are_gone(earlier, source.patterns):
        return earlier
    uris: list[str] = []
    for setting, patterns in source.files.items():
        # a glob may match a test file, too
        uris += [u for u in input_files.expand(patterns, setting=setting) if u not in uris]
    if earlier or source.name == CORRECTED:
        return input_files.describe(uris, earlier=earlier)
    return input_files.as_found(uris)


def cut(
    source: InputSource, described: Input, settings: PrepareSettings, maps: MapStages, root: str
) -> corpus.Corpus:
    """Cut the files into parts, and check that they have the required columns.

    Args:
        source: The files.
        described: Their description.
        settings: The section ``prepare``.
        maps: Reads the files, unless they are small.
        root: Has a folder for the content of compressed files.

    Raises:
        UserError: A column is missing, there is no record, or there are both CSV and Parquet.
    """
    files = described["files"]
    is_labelled = source.name == "csv"
    if is_labelled:
        stage, folder, keep = "read_files", "unpacked", settings.read_columns
    else:
        stage, folder, keep = "read_unlabelled", "more", ()
    setting = " and ".join(name for name, patterns in source.files.items() if patterns)
    plan: corpus.Plan
    if corpus.are_tables([item["uri"] for item in files], setting=setting):
        plan = table_plans.plan_preparation(files, settings=source.format, keep_columns=keep)
    else:
        plan = corpus.plan_csv(
            files,
            settings=source.format,
            rows_per_part=settings.rows_per_file,
            unpack_to=join(root, folder),
        )
    if is_labelled:
        corpus.check_preparation(plan, settings)
    cut = corpus.cut(
        plan,
        rows_per_part=settings.rows_per_file,
        map_files=functools.partial(maps.map, stage, key=manifest.fingerprint(files)),
        splits=find_splits(source, files),
    )
    if not cut.num_rows:
        raise UserError(f"{files[0]['uri']} holds no record", hint="it has no row")
    for note in cut.notes:
        say(STAGE, note)
    return cut
