"""Arrow array of strings -> its bytes and offsets, as numpy arrays, without a copy."""

import numpy as np
import pyarrow as pa


def string_buffers(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """View a string array, or a slice of one, as its bytes and its rows' offsets into them."""
    assert text.type == pa.string(), "the offsets are read as int32"
    _, offsets_buffer, data_buffer = text.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[text.offset : text.offset + len(text) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]
