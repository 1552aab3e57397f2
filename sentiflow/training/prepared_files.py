"""Manifest of prepared data -> the files that a training reads, listed once."""

from collections.abc import Mapping
from dataclasses import dataclass

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import SPLITS, TRAIN


@dataclass(frozen=True)
class PreparedFiles:
    """The files of prepared data in order, with the rows of each."""

    tweets: Mapping[str, Mapping[str, int]]
    """Texts and labels, by split."""
    encoded: Mapping[str, int]
    """Token ids of the train split."""
    unlabelled: Mapping[str, int]
    """Texts without labels."""

    @classmethod
    def of(cls, prepared: Manifest, uri: str) -> "PreparedFiles":
        """List the files in the directory ``uri``."""

        def list_files(folder: str) -> dict[str, int]:
            return manifest.rows_by_file(prepared, uri, [folder])

        return cls(
            tweets={split: list_files(f"tweets/split={split}") for split in SPLITS},
            encoded=list_files(f"encoded/split={TRAIN}"),
            unlabelled=list_files("unlabelled"),
        )
