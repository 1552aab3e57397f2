"""Words and vectors of a file -> a copy that the next command maps into memory."""

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
"""Of the form of a copy; another one is not read."""


def locate(uri: str, *, max_words: int | None = None) -> Path:
    """Name the place for the copy of a file as it is now, of all of it or of its first words.

    It is in ``$XDG_CACHE_HOME/sentiflow/vectors``, or in ``~/.cache/sentiflow/vectors``; its name
    tells which file it is of, in which state that was, and of how many words.
    """
    info = filesystem.file_info(uri)
    state = f"{_VERSION} {info.size} {info.mtime_ns} {_find_change(uri)}"
    names = (hashlib.sha256(text.encode()).hexdigest()[:20] for text in (absolute_uri(uri), state))
    name = "-".join([*names, str(max_words or "all")])
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root, "sentiflow", "vectors", f"{name}.arrow")


def _find_change(uri: str) -> str:
    """Tell when a file of this machine was changed last, also if its time was set back then."""
    if not is_local(uri):
        return ""
    found = os.stat(split_member(absolute_uri(uri))[0])
    return f"{found.st_ino} {found.st_ctime_ns}"


def read(path: Path) -> tuple[pa.Array, np.ndarray] | None:
    """Map a copy into memory; None if there is none, or it is damaged.

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
        log.debug("%s", f"{path} is damaged and is made again: {error}")
        return None


def write(path: Path, words: pa.Array, vectors: np.ndarray) -> None:
    """Keep a copy, whole or not at all; if there is no place for it, none is kept.

    Copies of what the file was before are deleted.
    """
    if not path.is_absolute():  # nobody's home
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
        log.debug("%s", f"no copy of the vectors is kept: {error}")
