"""Parts of predictions -> their sums without manual labels, and their labelled rows; both are kept.

The sums of a part do not depend on ``trends.labels``. So only new parts are read, and parts with
newly labelled rows, of which only these rows are taken. The labelled rows are kept, too.

Sums add up: the sums of 8 consecutive parts are one table, and of 8 such tables again. Sums are
always added in this order, so the result does not depend on which tables were kept.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.sections import TrendsSettings
from sentiflow.data import lineage, manifest
from sentiflow.data.arrays import hash_texts, put_columns
from sentiflow.data.manifest_types import FileEntry, Manifest
from sentiflow.metrics import sample_randomness, sampling
from sentiflow.progress import Progress
from sentiflow.shares import rows
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.shares.label_finder import LabelFinder, RowLabels
from sentiflow.shares.randomness import CellCounts
from sentiflow.shares.rows import VERSION, PredictionBatch

AUTHOR = "\0author"
"""Key of the author of a row of the sample; no column has this name."""
SEEN = "\0seen"
"""Key of the rows whose text the model was trained on: they are a stratum, as copies of training
texts have other errors."""
NO_AUTHOR = 0
"""Author of all rows outside the sample: only observations of the sample are counted."""
_VERSION = 1
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
_FACTS = pa.schema(
    {
        "part": pa.string(),
        "version": pa.string(),
        "first_row": pa.int64(),
        "last_row": pa.int64(),
        "population": pa.list_(pa.float64()),
        "sample": pa.list_(pa.float64()),
    }
)
"""Columns of the kept table of :class:`PartFacts`."""


class _Block(NamedTuple):
    """8^level consecutive parts; the first is a multiple of 8^level."""

    level: int
    number: int

    @property
    def children(self) -> list["_Block"]:
        """List the blocks of the level below."""
        first = self.number * _FAN
        return [_Block(self.level - 1, first + number) for number in range(_FAN)]


@dataclass(frozen=True)
class PartFacts:
    """What is known of the rows of a part that one model has scored."""

    part: str
    """The name of the part, see :meth:`PartSums.read`."""
    version: str
    first_row: int
    """The lowest row number."""
    last_row: int
    """The highest row number."""
    counts: CellCounts
    """Rows that the model has not seen, by predicted class and probability."""


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
        self._names = self._name_parts(scored)
        self._named = np.zeros(0, np.int64)
        if finder.labels is not None:
            self._named = np.sort(finder.labels.table.index.to_numpy(np.int64))
        self._facts = self._find_facts()
        self._rows = self._find_rows()
        self._progress: Progress | None = None

    def _name_parts(self, scored: Manifest) -> list[str]:
        """Name each part by all that decides its sums: the file, the settings, its models."""
        has_manual = self._finder.labels is not None
        rule = [_VERSION, has_manual, self._reader.rule]
        seen = self._finder.identify_seen()
        names = []
        for part in self._reader.parts:
            versions = _find_versions(scored, part)
            seen_by = {version: seen[version] for version in versions if version in seen}
            content = [rule, part["path"], part["bytes"], seen_by or seen]
            names.append(f"part-{manifest.fingerprint(content)}")
        return names

    def _find_facts(self) -> dict[str, list[PartFacts]]:
        """Find the kept facts of parts that are still there, by name."""
        current = set(self._names)
        found: dict[str, list[PartFacts]] = {}
        for name in self._kept.names("facts"):
            table = self._kept.find(name)
            for line in table.to_pylist() if table is not None else ():
                if line["part"] in current:
                    facts = _to_facts(line, self._num_classes)
                    found.setdefault(facts.part, []).append(facts)
        return found

    def _find_rows(self) -> list[pa.Table]:
        """Find the kept rows that have manual labels, and whose parts are still there."""
        current = pa.array(self._names, pa.string())
        found = []
        for name in self._kept.names("rows"):
            table = self._kept.find(name)
            if table is not None:
                is_current = pc.is_in(table["part"], current)
                table = table.filter(is_current)
                found.append(table.filter(np.isin(table["row_id"].to_numpy(), self._named)))
        return found

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
        self._keep_facts()
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
        """Read a part: add up its rows, count their cells, and take the rows with manual labels."""
        name = self._names[number]
        facts: dict[str, PartFacts] = {}
        sums: list[pd.DataFrame] = []
        self._rows = [_leave_out(table, name) for table in self._rows]
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
            )
            sums.append(of_batch)
            if len(sums) == _MAX_BATCHES:
                sums = [sampling.merge(sums)]
            for version in batch.keys[VERSION].unique():
                new = self._describe(batch, found, name, str(version))
                facts[new.version] = _join_facts(facts.get(new.version), new)
            self._take_rows(batch, name)
            if self._progress is not None:
                self._progress.advance(len(batch.row_id))
        self._facts[name] = list(facts.values())
        return sampling.leave_out_zeros(sampling.merge(sums)) if sums else None

    def _describe(
        self, batch: PredictionBatch, found: RowLabels, name: str, version: str
    ) -> PartFacts:
        """Describe the rows of a batch that a model has scored."""
        is_of_version = (batch.keys[VERSION] == version).to_numpy()
        row_id = batch.row_id[is_of_version]
        return PartFacts(
            part=name,
            version=version,
            first_row=int(row_id.min()),
            last_row=int(row_id.max()),
            counts=count_cells(batch, found, is_of_version),
        )

    def count(self, version: str, end: int | None) -> CellCounts:
        """Count the cells of the rows of a model, with the labels of the corpus alone.

        Args:
            version: The version of the model.
            end: Rows with this number and greater ones do not count. A part that has rows on both
                sides is read. None: all rows count.
        """
        total = CellCounts.zeros(self._num_classes)
        for number, name in enumerate(self._names):
            for facts in self._facts[name]:
                if facts.version != version:
                    continue
                if end is None or facts.last_row < end:
                    total.add(facts.counts)
                elif facts.first_row < end:
                    for batch in self._reader.read_part(self._reader.parts[number]):
                        is_of_version = (batch.keys[VERSION] == version).to_numpy()
                        found = self._finder.find_own(batch)
                        total.add(count_cells(batch, found, is_of_version & (batch.row_id < end)))
        return total

    def find_rows(self) -> PredictionBatch | None:
        """Find the rows of ``trends.labels``, sorted by number; None if there are none.

        Call it after :meth:`read`. Parts are read only if they may hold a row that is not kept.
        """
        found = [table["row_id"].to_numpy() for table in self._rows]
        missing = np.setdiff1d(self._named, np.concatenate([np.zeros(0, np.int64), *found]))
        for number, name in enumerate(self._names):
            first = min((facts.first_row for facts in self._facts[name]), default=0)
            last = max((facts.last_row for facts in self._facts[name]), default=-1)
            start, stop = np.searchsorted(missing, [first, last + 1])
            if start == stop:
                continue
            wanted = missing[start:stop]
            for batch in self._reader.read_part(self._reader.parts[number], only=wanted):
                self._take_rows(batch, name)
        # A kept table without a row that still holds may have other columns.
        tables = [table for table in self._rows if len(table)]
        if not tables:
            return None
        table = pa.concat_tables(tables).sort_by("row_id")
        self._kept.keep_as("rows", table)
        return _to_batch(table, self._num_classes)

    def _take_rows(self, batch: PredictionBatch, name: str) -> None:
        """Take the rows of ``trends.labels`` from a batch of a part."""
        place = np.flatnonzero(np.isin(batch.row_id, self._named))
        if len(place):
            self._rows.append(_take(batch, place, name))

    def _keep_facts(self) -> None:
        """Keep the facts of all parts."""
        lines = []
        for name in self._names:
            for facts in self._facts[name]:
                lines.append(_to_line(facts))
        self._kept.keep_as("facts", pa.Table.from_pylist(lines, schema=_FACTS))


def count_cells(batch: PredictionBatch, found: RowLabels, is_counted: np.ndarray) -> CellCounts:
    """Count the cells of some rows that their model has not seen."""
    is_compared = is_counted & ~found.is_seen
    in_population = sampling.find_population(found.label, found.weight)
    of_sample = np.where((found.label >= 0) & is_compared, found.weight, 0.0)
    return CellCounts(
        population=sample_randomness.count_cells(
            batch.prediction, batch.probabilities, in_population & is_compared
        ),
        sample=sample_randomness.count_cells(batch.prediction, batch.probabilities, of_sample),
    )


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


def _join_facts(earlier: PartFacts | None, new: PartFacts) -> PartFacts:
    """Join what is known of two batches of a part."""
    if earlier is None:
        return new
    earlier.counts.add(new.counts)
    return replace(
        earlier,
        first_row=min(earlier.first_row, new.first_row),
        last_row=max(earlier.last_row, new.last_row),
    )


def _to_line(facts: PartFacts) -> dict[str, Any]:
    """Convert facts to a row of ``_FACTS``."""
    return {
        "part": facts.part,
        "version": facts.version,
        "first_row": facts.first_row,
        "last_row": facts.last_row,
        "population": facts.counts.population.ravel().tolist(),
        "sample": facts.counts.sample.ravel().tolist(),
    }


def _to_facts(line: dict[str, Any], num_classes: int) -> PartFacts:
    """Convert a row of ``_FACTS`` to facts."""
    shape = (num_classes, sample_randomness.NUM_BINS)
    counts = CellCounts(
        population=np.array(line["population"]).reshape(shape),
        sample=np.array(line["sample"]).reshape(shape),
    )
    return PartFacts(
        part=line["part"],
        version=line["version"],
        first_row=line["first_row"],
        last_row=line["last_row"],
        counts=counts,
    )


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


def _take(batch: PredictionBatch, place: np.ndarray, part: str) -> pa.Table:
    """Take rows of a batch as a table, with hashes in place of texts and authors."""
    columns: dict[str, Any] = {
        "part": [part] * len(place),
        "row_id": batch.row_id[place],
        "label": batch.label[place],
        "prediction": batch.prediction[place],
    }
    for number in range(batch.probabilities.shape[1]):
        columns[f"probability-{number}"] = batch.probabilities[place, number]
    if batch.author is not None:
        columns["author"] = batch.author[place]
    if batch.text is not None:
        columns["text"] = hash_texts(batch.text.take(pa.array(place)).fill_null(""))
    keys = batch.keys.iloc[place].add_prefix(_KEY)
    of_keys = pa.Table.from_pandas(keys, preserve_index=False)
    return put_columns(
        pa.table(columns), dict(zip(of_keys.column_names, of_keys.columns, strict=True))
    )


def _to_batch(table: pa.Table, num_classes: int) -> PredictionBatch:
    """Convert rows of :func:`_take` to a batch."""
    names = [name for name in table.column_names if name.startswith(_KEY)]
    keys = table.select(names).to_pandas()
    probabilities = [table[f"probability-{number}"] for number in range(num_classes)]
    has_author = "author" in table.column_names
    has_text = "text" in table.column_names
    return PredictionBatch(
        row_id=table["row_id"].to_numpy(),
        label=table["label"].to_numpy(),
        prediction=table["prediction"].to_numpy(),
        probabilities=np.stack([each.to_numpy() for each in probabilities], axis=1),
        keys=keys.rename(columns=lambda name: name[len(_KEY) :]),
        author=table["author"].to_numpy() if has_author else None,
        text=None,
        known_hashes=table["text"].to_numpy() if has_text else None,
    )


def _leave_out(table: pa.Table, part: str) -> pa.Table:
    """Leave out the rows of a part, which is read again."""
    return table.filter(pc.not_equal(table["part"], part))
