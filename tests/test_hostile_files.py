"""Files of a package or a run that are endless, wait, or unpack without end are refused at once."""
# ruff: noqa: F811 -- fixtures are imported

import io
import json
import os
import resource
import socket
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_run import (  # noqa: F401
    MODEL,
    OTHER,
    RUN,
    box,
    put,
    received,
)
from saved_package import forge, package, saved  # noqa: F401
from test_cli import invoke
from test_hostile_packages import carry_out, check_ended_well

from sentiflow.data import manifest_content
from sentiflow.errors import UserError
from sentiflow.models.package import ModelPackage
from sentiflow.storage import parquet, result_files, unpacking

pytestmark = pytest.mark.timeout(120)


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    server = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_RDONLY)  # the name of a socket is short
    server.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)
    server.close()


def make_endless(path):
    path.symlink_to("/dev/zero")


def make_loop(path):
    path.symlink_to(path.name)


def make_link_to_pipe(path):
    make_pipe(path.with_name("pipe"))
    path.symlink_to("pipe")


KINDS = {
    "pipe": make_pipe,
    "socket": make_socket,
    "device": make_endless,
    "loop": make_loop,
    "link to a pipe": make_link_to_pipe,
}
OF_PACKAGE = (
    "manifest.json",
    "settings.json",
    "vocabulary.parquet",
    "weights.safetensors",
    "golden.json",
)
OF_RUN = {
    "report/manifest.json": "card {run}",
    "scored/manifest.json": "compare {run} {other}",
    "scored/predictions/part-0.parquet": "compare {run} {other}",
    "trained/manifest.json": "tracking import {run}",
}
EVERY = 3
"""Only each third case is in the fast tests."""


def list_package_cases():
    number = 0
    for name in OF_PACKAGE:
        for kind in KINDS:
            for command in ("predict", "card", "score", "load_model"):
                marks = [pytest.mark.soak] if number % EVERY else []
                yield pytest.param(name, kind, command, marks=marks, id=f"{name}-{kind}-{command}")
                number += 1


def replace(path, kind):
    path.unlink()
    KINDS[kind](path)


@pytest.mark.parametrize(("name", "kind", "command"), [*list_package_cases()])
def test_no_file_of_a_package_may_wait_or_be_endless(box, name, kind, command):
    replace(box / RUN / MODEL / name, kind)
    before = box.look()
    began = time.monotonic()
    result = carry_out(command, box, box / RUN / MODEL)
    assert time.monotonic() - began < 20
    check_ended_well(result, "refused")
    assert box.look() == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", OF_RUN)
def test_no_file_of_a_run_may_wait_or_be_endless(box, path, kind):
    replace(box / RUN / path, kind)
    began = time.monotonic()
    command = OF_RUN[path].format(run=box / RUN, other=box / OTHER)
    result = invoke(*command.split())
    assert time.monotonic() - began < 20
    check_ended_well(result)


def test_a_training_that_is_a_pipe_counts_as_gone(box):
    replace(box / RUN / "trained/manifest.json", "pipe")
    result = invoke("card", str(box / RUN))
    check_ended_well(result, "works")
    assert "trained/manifest.json is no regular file" in result.stderr


# Names


@pytest.mark.parametrize("name", [".hidden", "_work/started.json", "_x", ".git/config"])
def test_a_package_has_no_hidden_file(saved, name):
    path = os.path.join(saved, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write("mine")
    with pytest.raises(UserError, match="is not part of a model package: move it away"):
        ModelPackage.load(saved)


def test_a_package_that_the_finder_has_shown_is_read(saved):
    before = ModelPackage.load(saved)
    with open(f"{saved}/.DS_Store", "wb") as file:
        file.write(b"\0")
    assert ModelPackage.load(saved).settings == before.settings


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("predictions/.part-0.parquet", "has a name that begins with"),
        ("_work/a/part-0.parquet", "has a name that begins with"),
        ("predictions/part-0.parquet", "lists it again"),
    ],
)
def test_a_manifest_lists_no_hidden_file_and_none_twice(box, path, problem):
    record = json.loads((box / RUN / "scored/manifest.json").read_text())
    files = [*record["files"], record["files"][0] | {"path": path}]
    put("files", files, "scored")(box, box / RUN)
    result = invoke("compare", str(box / RUN), str(box / OTHER))
    check_ended_well(result, "refused")
    assert problem in result.stderr


# Sizes


def test_a_manifest_of_nothing_but_a_hole_is_refused(saved):
    os.truncate(f"{saved}/manifest.json", 1 << 40)
    with pytest.raises(UserError, match=r"manifest\.json is empty but for [\d,]+ bytes"):
        ModelPackage.load(saved)


def test_a_manifest_that_is_too_large_is_refused(saved, monkeypatch):
    size = os.path.getsize(f"{saved}/manifest.json")
    monkeypatch.setattr(manifest_content, "MAX_BYTES", size)
    ModelPackage.load(saved)
    monkeypatch.setattr(manifest_content, "MAX_BYTES", size - 1)
    with pytest.raises(UserError, match=r"manifest\.json is larger than \d+ MiB"):
        ModelPackage.load(saved)


def test_weights_of_nothing_but_a_hole_are_refused(saved):
    size = 1 << 40
    os.truncate(f"{saved}/weights.safetensors", size)
    with open(f"{saved}/manifest.json") as file:
        record = json.load(file)
    (item,) = (item for item in record["files"] if item["path"] == "weights.safetensors")
    item["bytes"] = size
    with open(f"{saved}/manifest.json", "w") as file:
        json.dump(record, file)
    with pytest.raises(UserError, match=r"weights\.safetensors is empty but for [\d,]+ bytes"):
        ModelPackage.load(saved)


def test_a_large_file_with_data_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "SAFE_BYTES", 1 << 10)
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 16))
    assert result_files.read(str(path), max_bytes=1 << 20) == path.read_bytes()
    assert len(result_files.read(str(path), max_bytes=99)) == 100
    with open(path, "ab") as file:
        file.truncate(1 << 22)  # a hole after the data
    assert len(result_files.read(str(path), max_bytes=1 << 30)) == 1 << 22
    with open(path, "ab") as file:
        file.truncate(1 << 30)
    with pytest.raises(UserError, match="is empty but for 65,536 bytes: copy"):
        result_files.read(str(path), max_bytes=1 << 40)


# Repeats


def repeat(table, times, **options):
    """Write a table again and again into one Parquet file; return its content."""
    stream = io.BytesIO()
    with pq.ParquetWriter(stream, table.schema, compression="zstd", **options) as writer:
        for _ in range(times):
            writer.write_table(table)
    return stream.getvalue()


def words_of(num_rows, word):
    """Make rows of a vocabulary with one word."""
    return pa.table(
        {
            "id": pa.array(np.zeros(num_rows, np.int32)),
            "word": pa.DictionaryArray.from_arrays(np.zeros(num_rows, np.int32), [word]).cast(
                pa.string()
            ),
            "count": pa.nulls(num_rows, pa.int64()),
        }
    )


def claim_words(saved, num_words):
    """Let the settings of a package name a size of the vocabulary."""
    with open(f"{saved}/settings.json") as file:
        raw = json.load(file)
    forge(saved, settings=json.dumps(raw | {"vocabulary_size": num_words}).encode())


def test_a_vocabulary_of_repeated_rows_is_refused(saved, monkeypatch):
    content = repeat(words_of(100_000, "good"), 10)
    forge(saved, vocabulary=content)
    message = rf"vocabulary\.parquet has 1,000,000 rows in {len(content):,} bytes"
    with pytest.raises(UserError, match=message):
        ModelPackage.load(saved)
    claim_words(saved, 1_000_000)
    monkeypatch.setattr(unpacking, "SAFE_BYTES", 1 << 20)
    with pytest.raises(UserError, match=message):
        ModelPackage.load(saved)


def test_a_vocabulary_of_one_long_word_is_refused(saved, monkeypatch):
    stream = io.BytesIO()
    table = words_of(2000, "a" * 10_000)
    pq.write_table(table, stream, use_dictionary=["word"], compression="zstd")
    forge(saved, vocabulary=stream.getvalue())
    claim_words(saved, 2000)
    monkeypatch.setattr(unpacking, "SAFE_BYTES", 1 << 20)
    with pytest.raises(UserError, match=r"vocabulary\.parquet has texts of 20,000,000 bytes in"):
        ModelPackage.load(saved)


def measure_gib(action):
    """Return by how many GiB an action raises the peak memory of this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    action()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (1 << 20)


@pytest.mark.soak
def test_150_million_rows_in_a_small_file_are_refused_at_once(saved):
    content = repeat(words_of(1_000_000, "good"), 150)
    assert len(content) < 2_000_000
    forge(saved, vocabulary=content)
    claim_words(saved, 150_000_000)

    def load():
        began = time.monotonic()
        with pytest.raises(UserError, match=r"vocabulary\.parquet has 150,000,000 rows"):
            ModelPackage.load(saved)
        assert time.monotonic() - began < 2

    assert measure_gib(load) < 0.5


def test_predictions_of_repeated_rows_are_refused(box, monkeypatch):
    path = box / RUN / "scored/predictions/part-0.parquet"
    row = pq.read_table(path).slice(0, 1)
    content = repeat(pa.concat_tables([row] * 1000).combine_chunks(), 100)
    path.write_bytes(content)
    put("files.0.bytes", len(content), "scored")(box, box / RUN)
    put("files.0.rows", 100_000, "scored")(box, box / RUN)
    monkeypatch.setattr(unpacking, "SAFE_BYTES", 1 << 16)
    monkeypatch.setattr(unpacking, "MAX_RATIO", 10)
    result = invoke("compare", str(box / RUN), str(box / OTHER))
    check_ended_well(result, "refused")
    assert "part-0.parquet has 100,000 rows in" in result.stderr


def test_honest_tables_are_not_refused():
    table = pa.table({"row_id": range(1000), "probability": np.random.default_rng(0).random(1000)})
    assert parquet.from_bytes(parquet.to_bytes(table)) == table


@pytest.mark.parametrize("num_tensors", [2_000, pytest.param(700_000, marks=pytest.mark.soak)])
def test_weights_of_many_empty_tensors_are_refused_at_once(saved, num_tensors):
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{number}": empty for number in range(num_tensors)}).encode()
    forge(saved, weights=len(header).to_bytes(8, "little") + header + bytes(1000))
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"weights\.safetensors has a header of {len(header):,}"):
        ModelPackage.load(saved)
    assert time.monotonic() - began < 5


def test_a_reference_of_other_bins_is_refused_before_a_scoring(box):
    reference = {
        "rows": 5, "tokens": 5, "unknown_tokens": 0, "positive": 1, "lengths": [1, 2],
        "probabilities": [1, 2], "predicted": {},
    }  # fmt: skip
    put("reference", reference)(box, box / RUN / MODEL)
    result = carry_out("score", box, box / RUN / MODEL)
    check_ended_well(result, "refused")
    assert "has a reference with histograms of (2, 2) bins" in result.stderr


@pytest.mark.parametrize("key", ["files.0.bytes", "files.0.rows", "reference"])
def test_numbers_of_more_than_64_bits_are_refused(box, key):
    put(key, 10**30)(box, box / RUN / MODEL)
    result = carry_out("predict", box, box / RUN / MODEL)
    check_ended_well(result, "refused")
