"""Files appear whole or not at all, on this machine and in an object store."""

import glob
import hashlib
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.data import input_files
from sentiflow.errors import UserError
from sentiflow.storage import filesystem, globs, hashes, parquet
from sentiflow.storage.uris import join


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    """A directory here, then one in an object store."""
    if request.param == "local":
        return str(tmp_path / "root")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def fill(root, *names):
    """Write files that hold their name."""
    for name in names:
        filesystem.write_bytes(join(root, name), name.encode())


def test_what_is_written_is_read_and_listed(root):
    fill(root, "b.txt", "sub/deep/a.txt", "a.csv")
    assert filesystem.read_bytes(join(root, "sub/deep/a.txt")) == b"sub/deep/a.txt"
    assert filesystem.listing(root) == ["a.csv", "b.txt", "sub/deep/a.txt"]
    assert filesystem.listing(join(root, "sub")) == ["deep/a.txt"]


LEAF = 65536
AROUND_LEAVES = [0, 1, LEAF - 1, LEAF, LEAF + 1, 3 * LEAF, (4 << 20) + 5 * LEAF + 7]


def tree_sha256(content):
    """Write the definition out."""
    leaves = [content[i : i + LEAF] for i in range(0, len(content), LEAF)]
    digests = b"".join(hashlib.sha256(leaf).digest() for leaf in leaves)
    return hashlib.sha256(digests).hexdigest()


@pytest.mark.parametrize("size", AROUND_LEAVES)
def test_the_tree_hash_is_the_hash_of_the_hashes_of_the_leaves(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert hashes.tree_sha256(str(tmp_path / "file")) == tree_sha256(content)


def test_files_are_hashed_in_pieces_at_the_same_time(root, monkeypatch):
    monkeypatch.setattr(hashes, "_READ_BYTES", 2 * LEAF)
    monkeypatch.setattr(hashes, "_PIECE_BYTES", 4 * LEAF)
    sizes = [0, 1, LEAF, 2 * LEAF, 4 * LEAF, 4 * LEAF + 1, 9 * LEAF + 5]
    files = {join(root, f"f{size}"): size for size in sizes}
    for uri, size in files.items():
        filesystem.write_bytes(uri, os.urandom(size))
    done = []
    found = hashes.hash_files(files, advance=done.append)
    assert found == {uri: hashes.tree_sha256(uri) for uri in files}
    assert sum(done) == sum(sizes)


def test_deleting_removes_what_is_named_and_nothing_else(root):
    fill(root, "a", "b/c", "b/d", "bb")
    filesystem.delete(join(root, "b"))
    filesystem.delete(join(root, "a"))
    filesystem.delete(join(root, "none"))
    assert filesystem.listing(root) == ["bb"]


def write_half(uri, error):
    """Write half a file and fail."""
    try:
        with filesystem.publish(uri) as stream:
            stream.write(b"half")
            raise error
    except error:
        return
    pytest.fail("the error was swallowed")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("root", ["local", "s3"], indirect=True)
def test_a_failed_write_leaves_nothing(root, error):
    fill(root, "other")
    write_half(join(root, "sub/new"), error)
    assert filesystem.listing(root) == ["other"]


def test_a_file_is_not_seen_before_it_is_whole(root):
    uri = join(root, "file")
    with filesystem.publish(uri) as stream:
        stream.write(b"half")
        assert not filesystem.exists(uri)
        stream.write(b" and half")
    assert filesystem.read_bytes(uri) == b"half and half"
    assert filesystem.listing(root) == ["file"]


TREE = [
    "a.csv", "b.txt", ".hidden.csv", "x/a.csv", "x/.hidden.csv", "x/y/a.csv", "x/y/z/b.csv",
    ".git/a.csv", "x/.git/a.csv", "x/.git/y/a.csv", "y/x/y/a.csv",
]  # fmt: skip
SEGMENTS = ["**", "*", "*.csv", "?", "[xy]", "x", ".*", ".git", ".hidden*", "a.csv", "**.csv"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=5))
def test_a_glob_finds_in_a_store_what_python_finds_here(tree, wanted):
    names = glob.glob("/".join(wanted), root_dir=tree, recursive=True)
    found = {name for name in TREE if globs.matches(name, "/".join(wanted))}
    assert found == {name for name in names if os.path.isfile(f"{tree}/{name}")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A directory with the files of ``TREE``."""
    path = str(tmp_path_factory.mktemp("tree"))
    fill(path, *TREE)
    return path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*.csv", ["a.csv", "x/a.csv", "x/y/a.csv", "x/y/z/b.csv", "y/x/y/a.csv"]),
        ("*.csv", ["a.csv"]),
        (".*.csv", [".hidden.csv"]),
        ("x/**", ["x/a.csv", "x/y/a.csv", "x/y/z/b.csv"]),
        (".git/*", [".git/a.csv"]),
    ],
)
def test_two_stars_are_any_directories_and_hidden_files_are_left_out(root, pattern, found):
    fill(root, *TREE)
    assert input_files.expand([join(root, pattern)]) == [join(root, name) for name in found]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*.csv", ["a.csv", "x/_col=1/a.csv", "x/b_.csv"]),
        ("*.csv", ["a.csv"]),
        ("**", ["a.csv", "x/_col=1/a.csv", "x/b_.csv"]),
        ("_*.csv", ["_old.csv"]),
        ("_old.csv", ["_old.csv"]),
        ("**/_delta_log/*.csv", ["x/_delta_log/0.csv"]),
        ("x/_temporary/**", ["x/_temporary/0/a.csv"]),
        ("x/*/*.csv", ["x/_col=1/a.csv"]),
        ("[_]old.csv", []),
    ],
)
def test_names_that_begin_with_an_underscore_are_left_out_unless_they_are_named(
    root, pattern, found
):
    fill(
        root, "a.csv", "_old.csv", "x/_delta_log/0.csv", "x/_temporary/0/a.csv", "x/_col=1/a.csv",
        "x/b_.csv",
    )  # fmt: skip
    assert [*globs.find(join(root, pattern)).states] == [join(root, name) for name in found]


def test_files_that_are_left_out_are_told(tmp_path, said):
    fill(str(tmp_path), "a.csv", "_b.csv", "_tmp/c.csv")
    pattern = f"{tmp_path}/**/*.csv"
    for _ in range(2):
        assert input_files.expand([pattern]) == [f"{tmp_path}/a.csv"]
    line = f"2 files are left out, because a name begins with _: {tmp_path}/_b.csv; to read such"
    assert said.text.count(line) == 1


def test_a_file_that_is_named_twice_is_refused(root):
    fill(root, "a.csv", "b.csv", "x.zip")
    for again in (["a.csv", "a.csv"], ["b.csv", "*.csv"], ["x.zip::a", "*.zip::a"]):
        with pytest.raises(UserError, match=r" is named twice: name each file once$"):
            input_files.expand([join(root, name) for name in again])
    members = [join(root, "x.zip::a"), join(root, "x.zip::b")]
    assert input_files.expand(members) == members


def test_a_file_and_a_link_to_it_are_refused_together(tmp_path):
    fill(str(tmp_path), "2024.csv")
    os.symlink(tmp_path / "2024.csv", tmp_path / "latest.csv")
    with pytest.raises(UserError) as error:
        input_files.expand([f"{tmp_path}/*.csv"])
    same = f"{tmp_path}/latest.csv is also {tmp_path}/2024.csv: name each file once"
    assert str(error.value) == same


def test_a_file_is_found_again_through_a_linked_folder_and_a_relative_name(tmp_path, monkeypatch):
    fill(str(tmp_path), "weeks/a.csv", "weeks/b.csv")
    os.symlink(tmp_path / "weeks", tmp_path / "latest")
    os.symlink("../weeks/b.csv", tmp_path / "weeks/c.csv")
    real = f"{tmp_path}/weeks/a.csv"
    monkeypatch.chdir(tmp_path)
    for again, name in (
        (f"{tmp_path}/latest/a.csv", f"{tmp_path}/latest/a.csv"),
        ("weeks/a.csv", "weeks/a.csv"),
    ):
        with pytest.raises(UserError) as error:
            input_files.expand([real, again])
        assert str(error.value) == f"{name} is also {real}: name each file once"
    with pytest.raises(UserError, match=r"/latest/c\.csv is also .*/weeks/b\.csv"):
        input_files.expand([f"{tmp_path}/weeks/b.csv", f"{tmp_path}/latest/c.csv"])


def test_a_folder_of_many_files_is_followed_once(tmp_path, monkeypatch):
    fill(str(tmp_path), *(f"weeks/{number}.csv" for number in range(20)))
    followed = []
    realpath = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: followed.append(path) or realpath(path))
    assert len(input_files.expand([f"{tmp_path}/weeks/*.csv"])) == 20
    assert followed == [f"{tmp_path}/weeks"]


ODD_NAMES = [
    "a", "a b.csv", "a c.csv", "a#1.csv", "a%20c.csv", "a&b=c+d.csv", "what?.csv", "ü.csv",
]  # fmt: skip


def test_names_are_taken_as_they_are(root):
    root = join(root, "run #1?/50%20")
    fill(root, *ODD_NAMES)
    assert filesystem.listing(root) == ODD_NAMES
    found = input_files.expand([join(root, "*")])
    assert found == [join(root, name) for name in ODD_NAMES]
    assert [filesystem.read_bytes(uri).decode() for uri in found] == ODD_NAMES
    assert input_files.expand([join(root, "what?.csv")]) == [join(root, "what?.csv")]
    filesystem.delete(join(root, "a#1.csv"))
    assert filesystem.exists(join(root, "a"))
    filesystem.delete(root)
    assert filesystem.listing(root) == []


def test_what_names_no_file_is_refused(root):
    fill(root, "sub/a.csv")
    for pattern, problem in [
        ("none.csv", "no such file: {uri}"),
        ("*.csv", "no file matches {uri}"),
        ("none/*.csv", "no file matches {uri}"),
        ("sub", "{uri} is a directory: name a file, or a glob"),
    ]:
        uri = join(root, pattern)
        with pytest.raises(UserError) as error:
            input_files.expand([uri])
        assert str(error.value).startswith(problem.format(uri=uri))


def test_a_member_of_an_archive_is_looked_up_as_the_archive(root):
    fill(root, "x.zip", "xx.zip", "z.csv")
    names = input_files.expand([join(root, "*.zip::a/[b]*.csv"), join(root, "x.zip::none")])
    found = [name.removeprefix(root + "/") for name in names]
    assert found == ["x.zip::a/[b]*.csv", "xx.zip::a/[b]*.csv", "x.zip::none"]
    assert filesystem.locate(names[0])[1] == filesystem.locate(join(root, "x.zip"))[1]
    assert filesystem.exists(names[0])
    assert filesystem.file_info(names[1]).size == len("xx.zip")
    assert hashes.tree_sha256(names[1]) == hashes.tree_sha256(join(root, "xx.zip"))


def test_an_unknown_scheme_is_refused():
    with pytest.raises(UserError, match="cannot open nosuch://bucket/key: "):
        filesystem.file_info("nosuch://bucket/key")


@pytest.mark.parametrize(("start", "stop"), [(0, 25), (0, 1), (9, 11), (10, 20), (24, 25), (3, 17)])
def test_rows_of_a_file_are_read_whatever_its_row_groups(tmp_path, start, stop):
    table = pa.table({"a": range(25), "b": list("abcde" * 5)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=10)
    found = parquet.read_rows(str(tmp_path / "x.parquet"), start, stop, columns=["b", "c"])
    assert found.to_pydict() == {"b": table["b"].to_pylist()[start:stop]}


WRITER = """
import contextlib, sys, time
from sentiflow.storage import filesystem

print("ready", flush=True)
for number in range(12):
    with contextlib.suppress(OSError):
        filesystem.write_bytes(f"{sys.argv[1]}/parts/{number}", b"late")
    time.sleep(0.02)
"""


def test_a_folder_is_deleted_while_a_late_task_writes_to_it(tmp_path):
    folder = str(tmp_path / "run")
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as late:
            assert late.stdout.readline() == "ready\n"
            while late.poll() is None:
                filesystem.delete(folder)
        filesystem.delete(folder)
        assert not filesystem.exists(folder)


def test_only_the_empty_folders_of_deleted_files_are_removed(tmp_path):
    fill(str(tmp_path), "a/b/c.txt", "a/d.txt")
    for name in ("a/mine", "e/f"):
        (tmp_path / name).mkdir(parents=True)
    filesystem.delete(f"{tmp_path}/a/b/c.txt")
    filesystem.delete_empty_parents(str(tmp_path), ["a/b/c.txt"])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "d.txt", "e", "f", "mine"]
