"""What was found out about input files -> a settings file with comments."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jinja2
import yaml

from sentiflow.config.classes import MIN_CLASS_ROWS
from sentiflow.data.inspection import findings
from sentiflow.data.inspection.findings import Inspection
from sentiflow.data.tweets import UNKNOWN_LABEL, list_reasons
from sentiflow.storage.uris import split_member

_MEDIUM, _LARGE = 20_000, 100_000
"""Rows from which on larger batches serve as well and faster, and pretraining pays off."""
_UNBALANCED = 1.5
_FEW = 3000
"""Labelled rows below which the test rows are too few to measure a model by."""
MAX_REJECTED = 0.2
"""Share of rejected rows up to which the config allows them."""
_SUFFIXES = re.compile(r"(\.(csv|tsv|txt|tab|parquet|gz|zst|zip))+$", re.IGNORECASE)


def name_after(uri: str) -> str:
    """Make a name for an experiment from that of a file.

    Example:
        >>> name_after("s3://bucket/inbox/Messages 2024.csv.gz"), name_after("a.zip::b/c.csv")
        ('Messages_2024', 'c')
    """
    archive, member = split_member(uri)
    plain = _SUFFIXES.sub("", (member or archive).rpartition("/")[2])
    return re.sub(r"[^A-Za-z0-9.-]+", "_", plain).strip("_.-") or "messages"


def count_rare(found: Inspection) -> dict[str, int]:
    """Count the rows of the classes that have too few to be learned."""
    counts, share = found.label_counts, found.sample.num_rows / max(1, found.num_sampled)
    return {n: rows for n, rows in counts.items() if rows > 0 and rows * share < MIN_CLASS_ROWS}


def count_rejected(found: Inspection) -> float:
    """Return the share of rejected rows."""
    return sum(found.rejected.values()) / max(1, found.num_sampled)


def render(
    found: Inspection,
    *,
    files: Sequence[str],
    name: str,
    origin: str,
    model_uri: str | None,
    test: Sequence[str] = (),
) -> str:
    """Write the settings file.

    Args:
        found: What was found out.
        files: The input files as the user has typed them.
        name: Name of the experiment.
        origin: The first line, a comment.
        model_uri: A model to score with; then nothing is trained.
        test: Files of test rows, likewise.
    """
    section = findings.to_format(found)
    counts = {name: rows for name, rows in found.label_counts.items() if rows}
    trains = bool(counts) and model_uri is None
    learned = [rows for name, rows in counts.items() if name not in count_rare(found)]
    # unknown labels are not allowed for: prepare stops if they are many
    allowed = replace(found, rejected={**found.rejected, UNKNOWN_LABEL: 0})
    share = count_rejected(allowed)
    is_large = found.sample.num_rows > _LARGE
    is_few = sum(counts.values()) * found.sample.num_rows < _FEW * found.num_sampled
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sentiflow.data.inspection"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701
    )
    environment.filters["flow"] = _flow
    return environment.get_template("new_config.yaml.j2").render(
        origin=origin,
        name=name,
        is_table=found.sample.dialect is None,
        format=section,
        rows=counts,
        is_exact=found.sample.is_whole,
        trains=trains,
        files=list(files) if len(files) > 1 else files[0],
        test=list(test) if len(test) > 1 else "".join(test),
        roles=found.roles,
        keep=list(found.roles.keep),
        max_rejected=round(1.5 * share + 0.005, 2) if 0.005 < share <= MAX_REJECTED else None,
        rejected=list_rejected(found),
        is_large=is_large,
        has_folds=is_few and not test and found.roles.split is None,
        batch_size=128 if found.sample.num_rows > _MEDIUM else 64,
        is_unbalanced=bool(learned) and max(learned) >= _UNBALANCED * min(learned),
        model_uri=model_uri,
    )


def list_rejected(found: Inspection) -> str:
    """Say how many rows are rejected, and why."""
    reasons = list_reasons(found.rejected)
    num_rejected = sum(found.rejected.values())
    return f"{num_rejected:,} of {found.num_sampled:,} rows would be rejected: {reasons}"


def _flow(value: Any) -> str:
    """Write a value as YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf")
    )
    return text.removesuffix("...\n").strip()
