"""What is known of the rows of each part of predictions: row numbers, and counts by bin; kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.metrics import sample_randomness, sampling
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.shares.label_finder import RowLabels
from sentiflow.shares.randomness import BinCounts
from sentiflow.shares.rows import VERSION, PredictionBatch

_KIND = "facts"
"""What the name of a kept table begins with."""
_COLUMNS = pa.schema(
    {
        "part": pa.string(),
        "version": pa.string(),
        "first_row": pa.int64(),
        "last_row": pa.int64(),
        "first_arrival": pa.int64(),
        "last_arrival": pa.int64(),
        "population": pa.list_(pa.float64()),
        "sample": pa.list_(pa.float64()),
    }
)
"""Columns of a kept table."""


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
    first_arrival: int
    """The first row in the order of arrival, see ``PredictionBatch.arrival``."""
    last_arrival: int
    """The last row in the order of arrival."""
    counts: BinCounts
    """Rows that the model has not seen, by predicted class and probability."""


def find_kept(
    kept: KeptTables, parts: Iterable[str], num_classes: int
) -> dict[str, list[PartFacts]]:
    """Find the kept facts of parts that are still there, by name of the part."""
    current = set(parts)
    found: dict[str, list[PartFacts]] = {}
    for name in kept.names(_KIND):
        table = kept.find(name)
        for line in table.to_pylist() if table is not None else ():
            if line["part"] in current:
                found.setdefault(line["part"], []).append(_to_facts(line, num_classes))
    return found


def keep(kept: KeptTables, facts: Mapping[str, Sequence[PartFacts]], parts: Iterable[str]) -> None:
    """Keep the facts of some parts, in this order."""
    lines = [_to_line(of_version) for part in parts for of_version in facts[part]]
    kept.keep_as(_KIND, pa.Table.from_pylist(lines, schema=_COLUMNS))


def describe(batch: PredictionBatch, found: RowLabels, part: str) -> dict[str, PartFacts]:
    """Describe the rows of a batch, by the version of the model that has scored them."""
    facts = {}
    for version in batch.keys[VERSION].unique():
        is_of_version = (batch.keys[VERSION] == version).to_numpy()
        row_id = batch.row_id[is_of_version]
        arrival = batch.arrival[is_of_version]
        facts[str(version)] = PartFacts(
            part=part,
            version=str(version),
            first_row=int(row_id.min()),
            last_row=int(row_id.max()),
            first_arrival=int(arrival.min()),
            last_arrival=int(arrival.max()),
            counts=count_bins(batch, found, is_of_version),
        )
    return facts


def join(earlier: PartFacts | None, new: PartFacts) -> PartFacts:
    """Join what is known of two batches of a part."""
    if earlier is None:
        return new
    return replace(
        earlier,
        counts=earlier.counts + new.counts,
        first_row=min(earlier.first_row, new.first_row),
        last_row=max(earlier.last_row, new.last_row),
        first_arrival=min(earlier.first_arrival, new.first_arrival),
        last_arrival=max(earlier.last_arrival, new.last_arrival),
    )


def count_bins(batch: PredictionBatch, found: RowLabels, is_counted: np.ndarray) -> BinCounts:
    """Count some rows that their model has not seen, by predicted class and bin of probability."""
    is_compared = is_counted & ~found.is_seen
    in_population = sampling.find_population(found.label, found.weight)
    of_sample = np.where((found.label >= 0) & is_compared, found.weight, 0.0)
    return BinCounts(
        population=sample_randomness.count_bins(
            batch.prediction, batch.probabilities, in_population & is_compared
        ),
        sample=sample_randomness.count_bins(batch.prediction, batch.probabilities, of_sample),
    )


def _to_line(facts: PartFacts) -> dict[str, Any]:
    """Convert facts to a row of ``_COLUMNS``."""
    return {
        "part": facts.part,
        "version": facts.version,
        "first_row": facts.first_row,
        "last_row": facts.last_row,
        "first_arrival": facts.first_arrival,
        "last_arrival": facts.last_arrival,
        "population": facts.counts.population.ravel().tolist(),
        "sample": facts.counts.sample.ravel().tolist(),
    }


def _to_facts(line: dict[str, Any], num_classes: int) -> PartFacts:
    """Convert a row of ``_COLUMNS`` to facts."""
    shape = (num_classes, sample_randomness.NUM_BINS)
    counts = BinCounts(
        population=np.array(line["population"]).reshape(shape),
        sample=np.array(line["sample"]).reshape(shape),
    )
    return PartFacts(
        part=line["part"],
        version=line["version"],
        first_row=line["first_row"],
        last_row=line["last_row"],
        first_arrival=line["first_arrival"],
        last_arrival=line["last_arrival"],
        counts=counts,
    )
