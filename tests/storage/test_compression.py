"""A compressed file reads like the plain one, or is refused: no byte is ever lost."""

import base64
import gzip
import io
import itertools
import logging
import random
import zipfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus
from sentiflow.errors import UserError
from sentiflow.storage import compression, filesystem, unpacking
from sentiflow.storage.compression import open_content

SETTINGS = settings(max_examples=40, deadline=None)

ROWS = [b'"%d","row %d"\n' % (4 * (i % 2), i) for i in range(40)]
CONTENT = b"".join(ROWS)
HALF = len(b"".join(ROWS[:20]))

CHECKED_ZST = base64.b85decode(
    b"D77#B1ZbTC0K&ry5YV*&Wj$~tySsaH_LB<d2*9g}XLYKn)x@(peZHD_Rwr6bJgX0xfhUwfEIbY<s1WGxZ_rDN0U&}Ss"
    b"Qi#B`Y5Q!+Vb!vSk(?^Al{J_4}k2W"
)
"""``CONTENT`` as the program zstd packs it: with a checksum, which Arrow does not write."""


def pack_zst(content):
    """Pack as one frame without a checksum."""
    return pa.compress(content, "zstd", asbytes=True)


def pack_zip(*members, method=zipfile.ZIP_DEFLATED):
    """Pack pairs of name and content."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def pack_with_entry(changes):
    """Pack a zip, and write other bytes into the entry of its directory."""
    packed = bytearray(pack_zip(("a.csv", CONTENT)))
    for place, value in changes.items():
        packed[packed.rindex(b"PK\x01\x02") + place] = value
    return packed


FLAGS, METHOD = 8, 10
"""Places in an entry."""


PACK = {
    "gz": gzip.compress,
    "zst": pack_zst,
    "zip": lambda content: pack_zip(("tweets.csv", content)),
    "csv": bytes,
}

METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}

PACKED = {
    "one.gz": gzip.compress(CONTENT),
    "two.gz": gzip.compress(CONTENT[:HALF]) + gzip.compress(CONTENT[HALF:]),
    "one.zst": pack_zst(CONTENT),
    "two.zst": pack_zst(CONTENT[:HALF]) + pack_zst(CONTENT[HALF:]),
    "checked.zst": CHECKED_ZST,
    **{f"{name}.zip": pack_zip(("a.csv", CONTENT), method=m) for name, m in METHODS.items()},
}
BETWEEN = {"two.gz": len(gzip.compress(CONTENT[:HALF])), "two.zst": len(pack_zst(CONTENT[:HALF]))}
"""Where the first of two members ends."""

"""Files that hold a checksum of their content."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory for files that one example after the other overwrites."""
    return tmp_path_factory.mktemp("packed")


def write(folder, name, packed):
    """Write a file; returns its path."""
    path = folder / name
    path.write_bytes(packed)
    return str(path)


def read(uri, size=100):
    """Read a file forward."""
    found, numbers = [], itertools.count()
    with open_content(uri) as content:
        while block := content.read_block(next(numbers), size):
            found.append(block)
    return b"".join(found)


def read_in_blocks(uri, size):
    """Read a file in blocks, as the cutter does."""
    blocks = list(compression.read_blocks(uri, size))
    assert all(len(block) == size for block in blocks[:-1])
    return b"".join(blocks)


def refusal(uri):
    """Give the one line that refuses a file, without its directory."""
    with pytest.raises(UserError) as error:
        read(uri)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{uri.rpartition('/')[0]}/", "")


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("read_bytes", [7, compression._READ_BYTES])
def test_a_packed_file_has_the_content_of_the_plain_one(monkeypatch, folder, name, read_bytes):
    monkeypatch.setattr(compression, "_READ_BYTES", read_bytes)
    assert read(write(folder, name, PACKED[name])) == CONTENT


@pytest.mark.parametrize("kind", PACK)
@SETTINGS
@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 50))
def test_blocks_of_any_size_are_the_bytes_of_the_plain_file(folder, kind, size, block_bytes, chunk):
    plain = CONTENT[:size]
    uri = write(folder, f"law.{kind}", PACK[kind](plain))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "_READ_BYTES", chunk)
        assert read(uri, block_bytes) == read_in_blocks(uri, block_bytes) == plain


@pytest.mark.parametrize("name", PACKED)
def test_a_file_cut_off_anywhere_is_refused_by_name(folder, name):
    for length in {0, 1, *range(2, len(PACKED[name]), 3), len(PACKED[name]) - 1}:
        if length != BETWEEN.get(name):
            assert f"{name} cannot be unpacked: " in refusal(
                write(folder, name, PACKED[name][:length])
            )


@pytest.mark.parametrize("suffix", ["gz", "zst", "zip"])
@pytest.mark.parametrize(
    "content", [b"", CONTENT, CONTENT[:3], b"\0" * 100], ids=["empty", "CSV", "short", "zeros"]
)
def test_a_file_that_is_not_what_its_name_says_is_refused(folder, suffix, content):
    line = refusal(write(folder, f"wrong.{suffix}", content))
    assert line.startswith(f"wrong.{suffix} cannot be unpacked: ")
    assert line.endswith("; is it complete?")


@pytest.mark.parametrize(
    "form", [FormatSettings(), FormatSettings(kind="csv", columns={"text": 1})]
)
@pytest.mark.parametrize("length", [-1, 60])
def test_a_damaged_file_never_becomes_a_corpus(folder, form, length):
    uri = write(folder, "corpus.csv.gz", gzip.compress(CONTENT)[:length])
    with pytest.raises(UserError, match=r"corpus\.csv\.gz cannot be unpacked"):
        corpus.open_csv([uri], settings=form, rows_per_part=10, unpack_to=str(folder / "pieces"))


def test_of_several_files_one_is_named(folder):
    uri = write(folder, "x.zip", pack_zip(("a/t.csv", b"one"), ("b/t.csv", b"two"), ("c/", b"")))
    assert (read(f"{uri}::a/t.csv"), read(f"{uri}::b/t.csv")) == (b"one", b"two")
    names = "x.zip::a/t.csv, x.zip::b/t.csv"
    assert refusal(uri) == f"x.zip holds 2 files: name one: {names}"
    for missing in ("t.csv", "a", "c/", "A/t.csv"):
        with pytest.raises(UserError) as error:
            read(f"{uri}::{missing}")
        assert f"x.zip::{missing} has no member {missing}: name one: " in str(error.value)
        assert names in str(error.value).replace(f"{folder}/", "")


def test_an_encrypted_file_is_refused_with_the_way_out(folder):
    uri = write(folder, "x.zip", pack_with_entry({FLAGS: 1}))
    expected = "'a.csv' is encrypted, password required for extraction; unpack it first"
    assert refusal(uri) == f"x.zip cannot be unpacked: File {expected}"


@pytest.mark.parametrize("name", ["t.csv.bz2", "t.csv.XZ", "t.lz4", "t.7z", "t.tar.gz", "t.TGZ"])
def test_other_ways_of_packing_are_refused_with_a_hint(folder, name):
    line = refusal(write(folder, name, CONTENT))
    assert (
        line
        == f"{name} is packed in a format that is not supported: unpack it, or use .gz, .zst, .zip"
    )


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".gz", gzip.compress), (".zst", pack_zst), (".zip", lambda c: pack_zip(("a.csv", c)))],
)
def test_a_packed_file_in_object_storage_is_read_in_few_requests(bucket, caplog, suffix, pack):
    content = random.Random(0).randbytes(5_000_000)
    uri = f"{bucket}/noise{suffix}"
    filesystem.write_bytes(uri, pack(content))
    caplog.clear()
    caplog.set_level(logging.INFO, logger="werkzeug")  # moto's server says what it is asked for
    with open_content(uri) as file:
        assert file.read_block(0, len(content)) == content
    assert 0 < caplog.text.count("GET ") < 12


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.gz", gzip.compress), ("a.zst", pack_zst), ("a.zip", lambda c: pack_zip(("a.csv", c)))],
)
def test_a_file_that_unpacks_to_far_too_much_is_refused(tmp_path, monkeypatch, name, pack):
    (tmp_path / name).write_bytes(pack(b"\n" * (20 << 20)))
    with open_content(f"{tmp_path}/{name}") as content:
        assert len(content.read_block(0, 21 << 20)) == 20 << 20, "it is small"
    monkeypatch.setattr(unpacking, "SAFE_BYTES", 1 << 20)
    with (
        open_content(f"{tmp_path}/{name}") as content,
        pytest.raises(UserError, match=rf"{name} unpacks to more than 200 times its size: is it"),
    ):
        content.read_block(0, 21 << 20)


@pytest.mark.parametrize(("kind", "num_ahead"), [("csv", 4), ("csv.gz", 1)])
def test_blocks_are_read_ahead_and_no_further(monkeypatch, folder, kind, num_ahead):
    requested = []
    read_block = compression.Content.read_block

    def note(content, number, size):
        requested.append(number)
        return read_block(content, number, size)

    monkeypatch.setattr(compression.Content, "read_block", note)
    content = gzip.compress(CONTENT) if kind.endswith("gz") else CONTENT
    blocks = compression.read_blocks(write(folder, f"ahead.{kind}", content), 10)
    found = [next(blocks), next(blocks), next(blocks)]
    assert b"".join(found) == CONTENT[:30]
    blocks.close()
    assert sorted(requested) == list(range(3 + num_ahead))
