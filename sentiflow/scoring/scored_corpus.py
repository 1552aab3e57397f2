"""Score settings -> the corpus that they name: described, then planned, then cut into parts."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from sentiflow.config.sections import ScoreSettings
from sentiflow.data import corpus, input_files, manifest, schema, table_files
from sentiflow.data.corpus import Corpus, CsvPlan, MapParts
from sentiflow.data.manifest import WORK, OutputSpec
from sentiflow.data.table_files import TablePlan
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join

PREPARED = "prepared"

_NOTE = f"{WORK}/corpus.json"

Plan = CsvPlan | TablePlan | Corpus


def describe(settings: ScoreSettings) -> dict[str, Any]:
    """Describe the corpus as an input; what was not read before is not read now either.

    Raises:
        UserError: It is not there.
    """
    if settings.corpus == (PREPARED,):
        record = manifest.require(
            settings.prepared_uri, stage="prepare", setting="score.prepared_uri"
        )
        return manifest.reference(settings.prepared_uri, record)
    uris = filesystem.expand(list(settings.corpus))
    scored = manifest.read(settings.output_uri)
    known = scored["inputs"].get("corpus", {}) if scored else {}
    if "files" not in known:
        return input_files.as_found(uris)
    return input_files.add(known, uris) or input_files.describe(uris, known=known)


def plan(settings: ScoreSettings, described: dict[str, Any], *, num_earlier: int) -> Plan:
    """Look at what is to be scored, before anything is written.

    Args:
        settings: Of the stage.
        described: The corpus, by :func:`describe`.
        num_earlier: So many of its first files were scored before.

    Raises:
        UserError: It is of mixed or unknown kinds, cannot be read, or lacks a column to keep.
    """
    found = _plan(settings, described, num_earlier)
    _check_columns(found.columns, settings.keep_columns)
    return found


def _plan(settings: ScoreSettings, described: dict[str, Any], num_earlier: int) -> Plan:
    if settings.corpus == (PREPARED,):
        return corpus.open_prepared(
            settings.prepared_uri,
            rows_per_part=settings.rows_per_file,
            setting="score.prepared_uri",
            keep_columns=settings.keep_columns,
        )
    uris = [item["uri"] for item in described["files"]]
    old, new = uris[:num_earlier], uris[num_earlier:]
    are_parquet = {uri.lower().endswith(".parquet") for uri in uris}
    if len(are_parquet) > 1:
        raise UserError(
            f"score.corpus: {', '.join(settings.corpus)} are of two kinds",
            hint="name CSV files or .parquet files",
        )
    if are_parquet == {True}:
        return table_files.plan(
            new,
            text_column=settings.text_column,
            keep_columns=settings.keep_columns,
            earlier=old,
        )
    assert settings.format is not None, "settings are resolved"
    return corpus.plan_csv(
        new,
        form=settings.format,
        rows_per_part=settings.rows_per_file,
        unpack_to=join(settings.output_uri, WORK),
    )


def cut(
    plan: Plan,
    *,
    rows_per_part: int,
    first_row: int,
    map_parts: Callable[..., MapParts],
) -> Corpus:
    """Cut what was planned into parts.

    Args:
        plan: By :func:`plan`.
        rows_per_part: Rows of a part.
        first_row: Number of the first row.
        map_parts: Given the name of a pass and a key, makes what does its work; a small corpus is
            cut here.

    Raises:
        UserError: A file holds nothing, or is damaged.
    """
    if isinstance(plan, Corpus):
        return plan
    uris = [file.uri for file in plan.files] if isinstance(plan, CsvPlan) else plan.uris
    key, here = input_files.as_found(uris)["fingerprint"], corpus.is_brief(uris)
    if isinstance(plan, CsvPlan):
        mapped = corpus.map_here if here else map_parts("cut", key=key)
        return corpus.cut_csv(plan, map_parts=mapped, first_row=first_row)
    return corpus.open_tables(
        plan,
        rows_per_part=rows_per_part,
        map_parts=corpus.map_here if here else map_parts("hash", key=key),
        first_row=first_row,
    )


def _check_columns(columns: Sequence[str], keep_columns: Sequence[str]) -> None:
    """Make sure that predictions can have the columns; DuckDB and Spark know no upper case."""
    ours = set(schema.PREDICTIONS.names)
    for name in keep_columns:
        if name.lower() in ours and name not in schema.TWEETS.names:
            raise UserError(
                f"score.keep_columns: predictions have a column {name.lower()} of their own",
                hint="leave it out, or rename it in the corpus",
            )
    missing = sorted(set(keep_columns) - set(columns))
    if missing:
        raise UserError(
            f"score.keep_columns: the corpus has no column {', '.join(missing)}",
            hint=f"it has {', '.join(columns)}",
        )


def name_parts(source: Corpus, run_key: str) -> list[str]:
    """Name each part by the run, its rows and the content of its files."""
    contents = {item["uri"]: item["tree_sha256"] for item in source.files.get("files", ())}
    return [
        manifest.fingerprint(
            [
                run_key,
                str(part),
                str(source.table_format),
                [contents.get(uri, source.files["fingerprint"]) for uri in part.sources],
            ]
        )
        for part in source.parts
    ]


def _sequence(target: OutputSpec) -> list[str]:
    """Name what a corpus is made of, in its order, by what is known without reading it."""
    described = target.inputs["corpus"].get("files")
    if described is None:
        return [target.inputs["corpus"]["fingerprint"]]
    return [
        manifest.fingerprint([item["uri"], item["bytes"], item["modified_ns"]])
        for item in described
    ]


def note(target: OutputSpec) -> None:
    """Keep what the corpus is made of for the run that may have to go on."""
    content = json.dumps(_sequence(target)).encode()
    filesystem.write_bytes(join(target.uri, _NOTE), content)


def is_known(target: OutputSpec) -> bool:
    """Say whether an unfinished run was of this corpus, the beginning of it, or more of it."""
    if not filesystem.exists(join(target.uri, _NOTE)):
        return True
    before, now = json.loads(filesystem.read_bytes(join(target.uri, _NOTE))), _sequence(target)
    common = min(len(before), len(now))
    return before[:common] == now[:common]
