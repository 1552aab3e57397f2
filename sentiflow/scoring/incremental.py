"""Manifest of a scoring -> what is there of a corpus that has grown, for the rest to be added."""

from dataclasses import dataclass, field
from typing import Any

from sentiflow.data import input_files, manifest
from sentiflow.data.corpus import Corpus, CsvPlan
from sentiflow.data.manifest_types import FileEntry
from sentiflow.data.table_files import TableFormat, TablePlan
from sentiflow.errors import UserError
from sentiflow.models.drift import Profile

OF_PARTS = ("accepted", "rejected", "failed", "prior_only", "positive", "unknown_labels")
"""What is counted in each part."""
COUNTS = ("rows_read", *OF_PARTS)


@dataclass(frozen=True)
class Earlier:
    """What was scored before the corpus has grown; nothing, where it has not."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    num_parts: int = 0
    input_files: tuple[FileEntry, ...] = ()
    files: tuple[FileEntry, ...] = ()
    profile: Profile = field(default_factory=Profile)
    precision: str = ""
    has_row_ids: bool = False
    kept_types: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, uri: str) -> "Earlier":
        """Read it from the manifest of the directory ``uri``."""
        record = manifest.require(uri, stage="score", setting="score.output_uri")
        return cls(
            counts=record["counts"],
            num_parts=record["num_parts"],
            input_files=tuple(record["inputs"]["corpus"]["files"]),
            files=tuple(record["files"]),
            profile=Profile.from_json(record["profile"]),
            precision=record["precision"],
            has_row_ids=record["has_row_ids"],
            kept_types=record["kept_types"],
        )

    def check_fits(self, plan: CsvPlan | TablePlan | Corpus, precision: str) -> None:
        """Make sure that what is new can stand beside what is there.

        Raises:
            UserError: It cannot.
        """
        if not self.num_parts:
            return
        if precision != self.precision:
            raise UserError(
                f"what is there was scored in {self.precision}, not {precision}",
                hint=f"set score.precision={self.precision}",
            )
        if not isinstance(plan, TablePlan):
            return
        if self.has_row_ids and not plan.table_format.has_row_ids:
            raise UserError(
                plan.notes[0].partition(":")[0] if plan.notes else f"{plan.uris[0]} has no row_id",
                hint="number the new rows on, or score all into another directory",
            )
        types = kept_types(plan.table_format)
        for name in self.kept_types.keys() & types.keys():
            if types[name] != self.kept_types[name]:
                raise UserError(
                    f"score.keep_columns: {name} is {types[name]} in the new files, "
                    f"{self.kept_types[name]} in what is there",
                    hint="make it one type, or score all into another directory",
                )

    def join_files(self, source: Corpus) -> dict[str, Any]:
        """Describe the whole corpus as an input."""
        if not self.input_files:
            return source.files
        return input_files.join([*self.input_files, *source.files["files"]])


def kept_types(form: TableFormat) -> dict[str, str]:
    """Name the types of the columns that are kept, for the manifest."""
    return {name: str(kind) for name, kind in form.kept}
