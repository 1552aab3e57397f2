"""Settings of prepare -> the passes over its rows, in their order, numbered for the user."""

from sentiflow.cluster.map_stages import Pass
from sentiflow.preparation.part_files import PrepareJob

UNLABELLED = "unlabelled_"
"""Prefix of the names of passes over unlabelled texts."""


class Passes:
    """The names of the passes of a preparation, which are names of map stages."""

    def __init__(self, job: PrepareJob, *, has_corrections: bool, has_unlabelled: bool) -> None:
        """List the passes, as far as they are known before the first.

        Args:
            job: The arguments of the tasks.
            has_corrections: Whether some rows are relabelled.
            has_unlabelled: Whether there are unlabelled texts.
        """
        split = job.settings.split.kind
        drops = job.settings.duplicates != "keep"
        # A column may name fixed splits: this is known once the pass count_splits is over.
        may_be_fixed = bool(job.fixed_splits) or split == "column"
        is_needed_by_name = {
            "find_corrected": has_corrections,
            "find_classes": job.format.classes is None,
            "count_splits": split == "column",
            "count_times": split == "time",
            "hash": drops or may_be_fixed,
            "ingest": True,
            "encode": True,
            f"{UNLABELLED}hash": has_unlabelled and job.settings.duplicates == "drop",
            f"{UNLABELLED}encode": has_unlabelled,
        }
        self.names = [name for name, is_needed in is_needed_by_name.items() if is_needed]

    def leave_out(self, name: str) -> None:
        """Leave out a pass that turns out not to be needed."""
        self.names = [other for other in self.names if other != name]

    def find(self, name: str) -> Pass:
        """Number a pass."""
        return Pass(self.names.index(name) + 1, len(self.names))
