"""CSV or Parquet files -> a dataset of Ray Data with a checked row for each record.

The public function is :func:`sentiflow.read_texts`.
"""

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.cluster import connection  # before Ray: sets environment variables
from sentiflow.config import settings
from sentiflow.config.class_names import UNLABELLED
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, input_files, parts
from sentiflow.data.row_checks import RowRules
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem
from sentiflow.storage.uris import absolute_uri

# isort: split
import ray.data
from ray import cloudpickle


def read_texts(
    uris: str | Sequence[str],
    *,
    format: Mapping[str, Any] | None = None,
    keep_columns: Sequence[str] = (),
    rows_per_part: int = 100_000,
    unpack_to: str | None = None,
) -> ray.data.Dataset:
    """Read texts as a dataset of Ray Data, which can be filtered, mapped and written.

    The files are cut into parts between records, never inside a quoted text. Each part is a block
    that one task reads. The call joins a running Ray, or else starts one on this machine, which
    listens on loopback only and lives until the process ends.

    Args:
        uris: Files or globs, local or in object storage; CSV files may be compressed.
        format: The settings of the section ``format``; by default the format of Sentiment140.
        keep_columns: Columns of the files to add; folders such as ``brand=A`` name columns, too.
        rows_per_part: Approximate number of rows in a block.
        unpack_to: A directory that all nodes share, for unpacked copies of files that are
            compressed or in UTF-16; the copies are kept. Default: a temporary directory if the
            cluster is one machine; otherwise it is required for such files.

    Returns:
        A dataset with a row for each record, and the columns

        - ``row_id`` (int64),
        - ``source`` (string): the file,
        - ``offset`` (int64): where the record begins: in a CSV file its byte, counted in the
          unpacked UTF-8 text; in a Parquet file its row,
        - ``tweet_id`` (string),
        - ``text`` (string),
        - ``label`` (int8): position in the classes of the format; null if the label is missing or
          unknown, and always with ``labels: auto``,
        - ``label_name`` (string): the class,
        - the columns of ``keep_columns``,
        - ``raw`` (binary): the bytes of a rejected record,
        - ``reason`` (string): why the record is rejected; null if it is not.

    Raises:
        UserError: A file or a setting is wrong.

    Example:
        >>> texts = sentiflow.read_texts("tweets/*.csv")  # doctest: +SKIP
        >>> texts.filter(expr="reason is None").write_parquet("accepted")  # doctest: +SKIP
    """
    uri_list = [uris] if isinstance(uris, str) else list(uris)
    text_format = _validate_format(format or {})
    opened = _open_files(uri_list, text_format, keep_columns, rows_per_part, unpack_to)
    missing = sorted(set(keep_columns).difference(opened.columns))
    if missing:
        raise UserError(
            f"keep_columns: these columns are not in the files: {', '.join(missing)}",
            hint=f"the files have: {', '.join(opened.columns)}",
        )
    connection.start_until_exit()
    classes = text_format.classes
    rules = RowRules.of_texts(text_format, keep=keep_columns, with_offsets=True)

    # A block of Ray Data is a table, so it holds a part as bytes.
    def read_block(block: pa.Table) -> pa.Table:
        part = cloudpickle.loads(block["part"][0].as_py())
        return _read_part(part, classes=classes, rules=rules)

    rows = [{"part": cloudpickle.dumps(part)} for part in opened.parts]
    pickled_parts = ray.data.from_items(rows, override_num_blocks=len(rows))
    return pickled_parts.map_batches(read_block, batch_size=1, batch_format="pyarrow")


def _validate_format(section: Mapping[str, Any]) -> FormatSettings:
    """Validate a section ``format`` as if it stood in a settings file."""
    required = {"name": "texts", "output_uri": "texts"}
    config = settings.validate({**required, "format": dict(section)}, source="read_texts")
    return config.format


def _open_files(
    uris: Sequence[str],
    text_format: FormatSettings,
    keep_columns: Sequence[str],
    rows_per_part: int,
    unpack_to: str | None,
) -> corpus.Corpus:
    """Cut the files into parts; by default they are unpacked to a temporary folder."""
    files = input_files.expand([absolute_uri(uri) for uri in uris])
    if unpack_to is None and any(filesystem.map_files(compression.is_forward_only, files)):
        unpack_to = _make_unpack_folder()
    return corpus.open_csv(
        files,
        settings=text_format,
        rows_per_part=rows_per_part,
        unpack_to="" if unpack_to is None else absolute_uri(unpack_to),  # None: nothing to unpack
        keep_columns=keep_columns,
    )


def _make_unpack_folder() -> str:
    """Make a temporary folder for unpacked files; it is removed when the process ends.

    Starts or joins Ray first, to know whether all tasks run on this machine.

    Raises:
        UserError: They may run on several machines, which do not share the folder.
    """
    connection.start_until_exit()
    if not connection.count_resources().is_one_machine:
        raise UserError(
            "files that are compressed, or in UTF-16, must be unpacked where all nodes find them",
            hint="give read_texts(unpack_to=DIRECTORY)",
        )
    folder = tempfile.mkdtemp(prefix="sentiflow-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _read_part(part: parts.Part, *, classes: Sequence[str] | None, rules: RowRules) -> pa.Table:
    """Read a part in a worker.

    Without known classes (``labels: auto``) the class is the label as the file has it.
    """
    table = parts.read(part, rules)
    if classes is None:
        written = pc.utf8_trim_whitespace(table["unknown_label"])
        names = pc.if_else(pc.equal(written, UNLABELLED), None, written)
    else:
        names = pa.array(classes, pa.string()).take(table["label"].combine_chunks())
    position = table.column_names.index("unknown_label")
    table = table.set_column(position, parts.LABEL_NAME, names)
    table = table.drop_columns("split")
    # Parts have a dictionary here; read_texts promises plain strings.
    position = table.column_names.index("source")
    return table.set_column(position, "source", table["source"].cast(pa.string()))
