"""Cache of parsed vector files, which the next command maps into memory."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, is_local, split_member

log = logging.getLogger(__name__)

_VERSION = 2
"""Version of the cache format; other versions are not read."""


def locate(uri: str, *, max_words: int | None = None) -> Path:
    """Name the cached copy of a file in its current state, of all words or the first ``max_words``.

    The folder is ``$XDG_CACHE_HOME/sentiflow/vectors`` or ``~/.cache/sentiflow/vectors``. The name
    identifies the file, its state and the number of words.
    """
    info = filesystem.file_info(uri)
    state = f"{_VERSION} {info.size} {info.mtime_ns} {_find_change(uri)}"
    names = (hashlib.sha256(text.encode()).hexdigest()[:20] for text in (absolute_uri(uri), state))
    name = "-".join([*names, str(max_words or "all")])
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root, "sentiflow", "vectors", f"{name}.arrow")


def _find_change(uri: str) -> str:
    """Identify the last change of a local file, even if its modification time was reset."""
    if not is_local(uri):
        return ""
    found = os.stat(split_member(absolute_uri(uri))[0])
    return f"{found.st_ino} {found.st_ctime_ns}"


def read(path: Path) -> tuple[pa.Array, np.ndarray] | None:
    """Map a cached copy into memory; None if it is missing or damaged.

    Returns:
        V strings, and (V, D) float32, read-only.
    """
    try:
        with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
            (batch,) = (reader.get_batch(i) for i in range(reader.num_record_batches))
        batch.validate(full=True)
        words, vectors = batch["word"], batch["vector"]
        if words.type != pa.string() or vectors.type.value_type != pa.float32():
            raise pa.ArrowTypeError(f"a table of {batch.schema}")
        dim = vectors.type.list_size
        if words.null_count or vectors.null_count or vectors.values.null_count:
            raise pa.ArrowInvalid("a word or a number is missing")
        return words, vectors.values.to_numpy().reshape(len(words), dim)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        log.debug("%s", f"{path} is damaged and will be replaced: {error}")
        return None


def write(path: Path, words: pa.Array, vectors: np.ndarray) -> None:
    """Write a copy atomically, and delete copies of earlier states of the file.

    A copy that cannot be written is skipped.
    """
    if not path.is_absolute():  # the user has no home directory
        return
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = pa.RecordBatch.from_arrays([words, lists], ["word", "vector"])
    try:
        with (
            filesystem.publish(str(path)) as stream,
            pa.ipc.new_file(stream, table.schema) as writer,
        ):
            writer.write_batch(table)
        file, state, _ = path.name.split("-")
        for other in path.parent.glob(f"{file}-*.arrow"):
            if not other.name.startswith(f"{file}-{state}-"):
                other.unlink(missing_ok=True)
    except OSError as error:
        log.debug("%s", f"the vectors are not cached: {error}")
