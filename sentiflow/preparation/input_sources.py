"""Settings of prepare -> its input files: described first, then cut into parts."""

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
from sentiflow.errors import UserError
from sentiflow.progress import say
from sentiflow.storage.uris import join

STAGE = "prepare"
CORRECTED = "corrections"
"""Name of the corrections among the inputs."""


@dataclass(frozen=True)
class InputSource:
    """Input files of one kind: labelled rows, unlabelled texts, or corrections."""

    name: str
    """Name of the input in the manifest."""
    files: Mapping[str, tuple[str, ...]]
    """Files and globs by the setting that names them, in the order in which rows are numbered."""
    format: FormatSettings

    @property
    def patterns(self) -> tuple[str, ...]:
        """The files and globs of all settings."""
        return tuple(itertools.chain.from_iterable(self.files.values()))


def list_all(config: Config) -> tuple[InputSource, InputSource, InputSource]:
    """Name the files of labelled rows, of unlabelled texts and of corrections.

    The last two may be empty. Files of fixed splits come first: their rows keep their numbers when
    the other files change.
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
    for split in ("validation", "test"):  # test wins if a file is named for both
        for pattern in source.files.get(f"prepare.{split}", ()):
            for item in files:
                if input_files.matches(item["uri"], pattern):
                    found[item["uri"]] = split
    return found


def describe(source: InputSource, *, earlier: Input | None) -> Input:
    """Describe the files; with a complete result, files that have changed since are hashed.

    Without a complete result, files are hashed later, when they are cut; only corrections are
    hashed here, because they are not cut.

    Args:
        source: The files.
        earlier: Their description in a complete result.

    Raises:
        UserError: A file does not exist.
    """
    if earlier and input_files.are_gone(earlier, source.patterns):
        return earlier
    uris: list[str] = []
    for setting, patterns in source.files.items():
        for uri in input_files.expand(patterns, setting=setting):
            if uri not in uris:  # a glob may match a test file, too
                uris.append(uri)
    if earlier or source.name == CORRECTED:
        return input_files.describe(uris, earlier=earlier)
    return input_files.as_found(uris)


def cut(
    source: InputSource, described: Input, settings: PrepareSettings, maps: MapStages, root: str
) -> corpus.Corpus:
    """Cut the files into parts, and check that they have the required columns.

    Args:
        source: The files.
        described: The files, as :func:`describe` returns them.
        settings: The section ``prepare``.
        maps: Runs the work on each file, unless the files are small.
        root: Directory in which unpacked content of compressed files gets a folder.

    Raises:
        UserError: A column is missing, there is no record, or there are both CSV and Parquet.
    """
    files = described["files"]
    is_labelled = source.name == "csv"
    stage = "read_unlabelled"
    folder = "more"
    keep: tuple[str, ...] = ()
    if is_labelled:
        stage = "read_files"
        folder = "unpacked"
        keep = settings.read_columns
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
    found = corpus.cut(
        plan,
        rows_per_part=settings.rows_per_file,
        map_files=functools.partial(maps.map, stage, key=manifest.fingerprint(files)),
        splits=find_splits(source, files),
    )
    if not found.num_rows:
        raise UserError(f"{files[0]['uri']} holds no record", hint="it has no row")
    for note in found.notes:
        say(STAGE, note)
    return found
