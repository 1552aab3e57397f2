"""Parts of predictions -> their sums without manual labels, and their labelled rows; both are kept.

The sums of a part do not depend on ``trends.labels``. So only new parts are read, and parts with
newly labelled rows, of which only these rows are taken. The labelled rows are kept, too.

Sums add up: the sums of 8 consecutive parts are one table, and of 8 such tables again. Sums are
always added in this order, so the result does not depend on which tables were kept.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.metrics import sampling
from sentiflow.progress import Progress
from sentiflow.shares import part_facts, rows
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.shares.label_finder import LabelFinder
from sentiflow.shares.labelled_rows import LabelledRows
from sentiflow.shares.part_facts import PartFacts
from sentiflow.shares.randomness import BinCounts
from sentiflow.shares.ratings import find_scale
from sentiflow.shares.rows import VERSION, PredictionBatch

AUTHOR = "\0author"
"""Key of the author of a row of the sample; no column has this name."""
SEEN = "\0seen"
"""Key of the rows whose text the model was trained on: they are a stratum, as copies of training
texts have other errors."""
NO_AUTHOR = 0
"""Author of all rows outside the sample: only observations of the sample are counted."""
_VERSION = 2
"""Changes whenever the same part would give other tables."""
_FAN = 8
"""Consecutive tables of sums that are joined to one."""
_MAX_BATCHES = 16
"""Number of batches whose sums are held before they are merged. Sums have a row for each author, so
they may need much memory."""
_PART = re.compile(r"part-(\d+)")
"""What the name of a file of predictions begins with: the number of its part."""
_KEY = "key-"
"""What names of columns with keys begin with, in a kept table."""


class _Block(NamedTuple):
    """8^level consecutive parts; the first is a multiple of 8^level."""

    level: int
    number: int

    @property
    def children(self) -> list["_Block"]:
        """List the blocks of the level below."""
        first = self.number * _FAN
        return [_Block(self.level - 1, first + number) for number in range(_FAN)]


class PartSums:
    """The sums of all parts of predictions."""

    def __init__(
        self,
        settings: TrendsSettings,
        scored: Manifest,
        uri: str,
        finder: LabelFinder,
        kept: KeptTables,
    ) -> None:
        """Name the parts, and find what is kept of them.

        Args:
            settings: The section ``trends``.
            scored: Manifest of the scored directory.
            uri: The scored directory.
            finder: Finds the labels of the corpus, and the rows that a model has seen.
            kept: Tables of an earlier result. All that the next result needs is added.
        """
        self._reader = rows.PredictionReader(settings, scored, uri, with_text=True)
        self._finder = finder
        self._kept = kept
        self._num_classes = len(manifest.find_classes(scored))
        self._scale = find_scale(scored)
        self._names = self._name_parts(scored)
        named = np.zeros(0, np.int64)
        if finder.labels is not None:
            named = np.sort(finder.labels.table.index.to_numpy(np.int64))
        self._facts = part_facts.find_kept(kept, self._names, self._num_classes)
        self._rows = LabelledRows(named, kept, self._names)
        self._progress: Progress | None = None

    def _name_parts(self, scored: Manifest) -> list[str]:
        """Name each part by all that decides its sums: the file, the settings, its models."""
        has_manual = self._finder.labels is not None
        rule = [_VERSION, has_manual, self._reader.rule]
        if self._scale is not None:
            rule.append(list(self._scale.values))
        seen = self._finder.identify_seen()
        names = []
        for part in self._reader.parts:
            versions = _find_versions(scored, part)
            seen_by = {version: seen[version] for version in versions if version in seen}
            start = self._reader.starts.get(part["path"])
            content = [rule, part["path"], part["bytes"], start, seen_by or seen]
            names.append(f"part-{manifest.fingerprint(content)}")
        return names

    def read(self) -> pd.DataFrame | None:
        """Add up all parts without manual labels; None if there is no row.

        Returns:
            Sums of ``sampling.add_up`` by all keys; by author, too, if the labels of the corpus are
            the sample and their authors are known.
        """
        blocks = _cover(len(self._names))
        unread: set[int] = set()
        for block in blocks:
            unread.update(self._find_unread(block))
        for number, name in enumerate(self._names):
            if name not in self._facts:
                unread.add(number)
        num_rows = sum(self._reader.parts[number]["rows"] or 0 for number in unread)
        sums = []
        with Progress("trends", total=num_rows, unit="rows") as self._progress:
            for block in blocks:
                found = self._add_up(block)
                if found is not None:
                    name = self._name(block)
                    if not self._kept.keep_again(name):
                        self._kept.keep(name, _to_table(found))
                    sums.append(found)
            for number, name in enumerate(self._names):
                if name not in self._facts:
                    self._read_part(number)
        part_facts.keep(self._kept, self._facts, self._names)
        return sampling.merge(sums) if sums else None

    def _find_unread(self, block: _Block) -> Iterator[int]:
        """List the parts of a block that must be read, as no table holds their sums."""
        if self._kept.has(self._name(block)):
            return
        if block.level == 0:
            yield block.number
            return
        for child in block.children:
            yield from self._find_unread(child)

    def _name(self, block: _Block) -> str:
        """Name the table of a block by the tables that it joins."""
        if block.level == 0:
            return f"sums-{self._names[block.number].removeprefix('part-')}"
        return f"sums-{manifest.fingerprint([self._name(child) for child in block.children])}"

    def _add_up(self, block: _Block) -> pd.DataFrame | None:
        """Add up the parts of a block; None if they have no rows."""
        table = self._kept.find(self._name(block))
        if table is not None:
            return _from_table(table)
        if block.level == 0:
            return self._read_part(block.number)
        found = [self._add_up(child) for child in block.children]
        sums = [each for each in found if each is not None]
        return sampling.merge(sums) if sums else None

    def _read_part(self, number: int) -> pd.DataFrame | None:
        """Read a part: add up its rows, count them by bin, and take the rows with manual labels."""
        name = self._names[number]
        facts: dict[str, PartFacts] = {}
        sums: list[pd.DataFrame] = []
        self._rows.leave_out(name)
        for batch in self._reader.read_part(self._reader.parts[number]):
            found = self._finder.find_own(batch)
            keys = batch.keys.assign(**{SEEN: found.is_seen})
            if batch.author is not None and self._finder.labels is None:
                is_sample = (found.label >= 0) & (found.weight > 0)
                keys = keys.assign(**{AUTHOR: np.where(is_sample, batch.author, NO_AUTHOR)})
            of_batch = sampling.add_up(
                keys,
                prediction=batch.prediction,
                probabilities=batch.probabilities,
                label=found.label,
                weight=found.weight,
                values=None if self._scale is None else self._scale.units,
            )
            sums.append(of_batch)
            if len(sums) == _MAX_BATCHES:
                sums = [sampling.merge(sums)]
            for version, new in part_facts.describe(batch, found, name).items():
                facts[version] = part_facts.join(facts.get(version), new)
            self._rows.take(batch, name)
            if self._progress is not None:
                self._progress.advance(len(batch.row_id))
        self._facts[name] = list(facts.values())
        return sampling.leave_out_zeros(sampling.merge(sums)) if sums else None

    def count(self, version: str, end: int | None) -> BinCounts:
        """Count the rows of a model by bin, with the labels of the corpus alone.

        Args:
            version: The version of the model.
            end: Rows that came at this number or later do not count, see
                ``PredictionBatch.arrival``. A part that has rows on both sides is read. None: all
                rows count.
        """
        total = BinCounts.zeros(self._num_classes)
        for number, name in enumerate(self._names):
            for facts in self._facts[name]:
                if facts.version != version:
                    continue
                if end is None or facts.last_arrival < end:
                    total += facts.counts
                elif facts.first_arrival < end:
                    for batch in self._reader.read_part(self._reader.parts[number]):
                        is_of_version = (batch.keys[VERSION] == version).to_numpy()
                        found = self._finder.find_own(batch)
                        is_counted = is_of_version & (batch.arrival < end)
                        total += part_facts.count_bins(batch, found, is_counted)
        return total

    def find_rows(self) -> PredictionBatch | None:
        """Find the rows of ``trends.labels``, sorted by number; None if there are none.

        Call it after :meth:`read`. Parts are read only if they may hold a row that is not kept.
        """
        missing = self._rows.find_missing()
        for number, name in enumerate(self._names):
            first = min((facts.first_row for facts in self._facts[name]), default=0)
            last = max((facts.last_row for facts in self._facts[name]), default=-1)
            start, stop = np.searchsorted(missing, [first, last + 1])
            if start == stop:
                continue
            wanted = missing[start:stop]
            for batch in self._reader.read_part(self._reader.parts[number], only=wanted):
                self._rows.take(batch, name)
        return self._rows.join(self._num_classes)


def _cover(num_parts: int) -> list[_Block]:
    """Cover parts by the largest blocks, in their order.

    Example:
        >>> [(block.level, block.number) for block in _cover(18)]
        [(1, 0), (1, 1), (0, 16), (0, 17)]
    """
    blocks = []
    start = 0
    while start < num_parts:
        level = 0
        size = 1
        while start % (size * _FAN) == 0 and start + size * _FAN <= num_parts:
            level += 1
            size *= _FAN
        blocks.append(_Block(level, start // size))
        start += size
    return blocks


def _find_versions(scored: Manifest, part: FileEntry) -> list[str]:
    """List the versions of the model that may have scored a part."""
    scorings = scored.get("scorings", [])
    written = _PART.match(part["path"].rpartition("/")[2])
    if not scorings or not written:
        return list(lineage.models_of(scored))
    number = int(written[1])
    started = [each["first_part"] for each in scorings if each["first_part"] <= number]
    first_part = max(started, default=0)
    return [each["model_version"] for each in scorings if each["first_part"] == first_part]


def _to_table(sums: pd.DataFrame) -> pa.Table:
    """Convert sums to a table: a column for each key, and for each sum and class."""
    keys = sums.index.to_frame(index=False).add_prefix(_KEY)
    values = sums.reset_index(drop=True)
    sum_names = sums.columns.get_level_values(0)
    classes = sums.columns.get_level_values(1)
    written = [f"{code}-{name}" for code, name in zip(classes, sum_names, strict=True)]
    values.columns = pd.Index(written)
    return pa.Table.from_pandas(pd.concat([keys, values], axis=1), preserve_index=False)


def _from_table(table: pa.Table) -> pd.DataFrame:
    """Convert a table of :func:`_to_table` to sums."""
    frame = table.to_pandas()
    names = [name for name in frame if name.startswith(_KEY)]
    index = pd.MultiIndex.from_frame(frame[names], names=[name[len(_KEY) :] for name in names])
    values = frame.drop(columns=names).set_axis(index)
    columns = []
    for written in values.columns:
        number, _, name = written.partition("-")
        columns.append((name, int(number)))
    return values.set_axis(pd.MultiIndex.from_tuples(columns), axis=1)
