"""Input of a scoring -> the files of its corpus: files scored before, new files, copies."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sentiflow.data import input_files, partitions
from sentiflow.data.manifest_types import Input, InputFile
from sentiflow.errors import UserError
from sentiflow.progress import say
from sentiflow.scoring.score_plan import STAGE
from sentiflow.storage.uris import display_uri


class Copy(NamedTuple):
    """A file with the content of an earlier file."""

    described: InputFile
    """Its description, with the hash of its content."""
    original: str
    """URI of the first file with this content."""


@dataclass(frozen=True, kw_only=True)
class CorpusFiles:
    """The files of a corpus: files that were scored before, then new files.

    A corpus of prepared data has no files here.
    """

    listed: Sequence[InputFile]
    """All files."""
    num_old: int
    """Files that were scored before: the first ones of ``listed``."""
    copies: dict[str, Copy]
    """Files with the content of an earlier file, by their URIs: copies are not scored."""

    @property
    def distinct(self) -> list[InputFile]:
        """The files without copies."""
        return [*self.old, *self.new]

    @property
    def old(self) -> list[InputFile]:
        """The files without copies that were scored before."""
        return self._leave_out_copies(self.listed[: self.num_old])

    @property
    def new(self) -> list[InputFile]:
        """The files without copies that were not scored before."""
        return self._leave_out_copies(self.listed[self.num_old :])

    def _leave_out_copies(self, files: Sequence[InputFile]) -> list[InputFile]:
        """Select the files that are no copies."""
        return [item for item in files if item["uri"] not in self.copies]

    def describe(self, source: Input) -> Input:
        """Describe the corpus after the scoring.

        Args:
            source: The new files as they were read.
        """
        if not self.listed:
            return source
        described = {item["uri"]: item for item in self.listed}
        for copy in self.copies.values():
            described[copy.described["uri"]] = {**copy.described, "rows": 0}
        for item in source.get("files", []):
            described[item["uri"]] = item.copy()
            described[item["uri"]].pop("read_as", None)  # an earlier result had read it elsewhere
        return input_files.combine([described[item["uri"]] for item in self.listed])


def find(corpus: Input, *, num_old: int, gone: Collection[str] = ()) -> CorpusFiles:
    """List the files of a corpus, and tell the user which are copies of others.

    Args:
        corpus: The corpus; new files have no hash.
        num_old: Number of files at its beginning that were scored before.
        gone: URIs of files to leave out.

    Raises:
        UserError: All files are left out.
    """
    every = corpus.get("files", [])
    listed = [item for item in every if item["uri"] not in gone]
    if every and not listed:
        raise UserError(
            f"score.corpus: all files are gone, the first is {display_uri(every[0]['uri'])}",
            hint="name files that exist, or keep the predictions: leave out --overwrite",
        )
    copies = _find_copies(listed)
    for uri, copy in copies.items():
        say(
            STAGE,
            f"{display_uri(uri)} is a copy of {display_uri(copy.original)}: it is scored once",
        )
    return CorpusFiles(listed=listed, num_old=num_old, copies=copies)


def _find_copies(files: Sequence[InputFile]) -> dict[str, Copy]:
    """Find files with the content of a file before them, by URI.

    A file is read only if it has no hash yet and may be a copy by its size and member name. Files
    with different partition columns are no copies.
    """
    counts = Counter(input_files.size_and_member(item) for item in files)
    candidates = [item for item in files if counts[input_files.size_and_member(item)] > 1]
    unread = [item for item in candidates if not item["tree_sha256"]]
    read = {item["uri"]: item for item in input_files.add_hashes(unread)}
    originals: dict[str, str] = {}
    copies: dict[str, Copy] = {}
    for item in candidates:
        described = read.get(item["uri"], item)
        original = originals.setdefault(partitions.identify(described), item["uri"])
        if original != item["uri"]:
            copies[item["uri"]] = Copy(described, original)
    return copies
