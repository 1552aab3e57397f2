"""GloVe by name is what the published archive holds, whatever the server and the disk do."""

import hashlib
import os
import pickle
import ssl
from dataclasses import replace

import numpy as np
import pytest
from archive_server import _no_proxy, pack, send, serve, server  # noqa: F401
from conftest import write_config

from sentiflow.config import settings
from sentiflow.data.download import GLOVE, Archive
from sentiflow.errors import UserError
from sentiflow.pipeline import stages
from sentiflow.words import word_vectors

SOURCE = "torchtext:6B.50d"
NUM_WORDS = 200
FILES = ["glove.6B.100d.txt", "glove.6B.50d.txt"]


@pytest.fixture(scope="module")
def members(glove):
    """GloVe's first words in its text form, of 50 and of 100 dimensions."""
    words = glove.words[:NUM_WORDS].to_pylist()
    texts = {}
    for dim in (50, 100):
        rows = np.tile(glove.vectors[:NUM_WORDS], dim // 50)
        lines = zip(words, rows, strict=True)
        text = "".join(f"{word} {' '.join(f'{x:.9g}' for x in row)}\n" for word, row in lines)
        texts[f"glove_6B_{dim}d_txt"] = text.encode()
    return texts


@pytest.fixture(scope="module")
def content(members):
    """A small archive of the published form."""
    return pack(**members)


@pytest.fixture
def archive(server, content, members, monkeypatch):  # noqa: F811
    """Publish the small archive as 6B on a local server."""
    server.answers = [serve(content)]
    sizes = {name.replace("_", "."): len(text) for name, text in members.items()}
    url = f"{server.address}/glove.6B.zip"
    return publish(Archive(url, len(content), hashlib.sha256(content).hexdigest(), sizes))


@pytest.fixture(autouse=True)
def _published(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(GLOVE, "6B", GLOVE["6B"])  # and restore it
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache_home"))


def publish(archive: Archive) -> Archive:
    GLOVE["6B"] = archive
    return archive


@pytest.fixture
def cache(tmp_path):
    return tmp_path / ".vector_cache"


@pytest.fixture
def check(glove):
    """Load the vectors and check that they are GloVe's."""

    def run(source=SOURCE, max_words=None):
        found = word_vectors.load(source, max_words=max_words)
        assert found.words.equals(glove.words[: max_words or NUM_WORDS])
        np.testing.assert_array_equal(found.vectors[:, :50], glove.vectors[: len(found.words)])
        assert (found.vectors.dtype, found.source) == (np.float32, source)
        return found

    return run


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def refusal(source=SOURCE):
    """Give the one line that refuses vectors."""
    with pytest.raises(UserError) as error:
        word_vectors.load(source)
    (line,) = str(error.value).splitlines()
    return line


# Names


@pytest.mark.parametrize("vectors", ["", "6B", "6B.64d"])
def test_an_unknown_name_lists_the_known_ones(vectors):
    line = refusal(f"torchtext:{vectors}")
    assert f"'torchtext:{vectors}'" in line
    for known in ("6B.50d", "6B.300d", "twitter.27B.25d", "42B.300d", "840B.300d"):
        assert known in line


def test_the_names_are_those_of_torchtext():
    import torchtext.vocab

    aliases = torchtext.vocab.pretrained_aliases
    assert {f"glove.{name}" for name in word_vectors.GLOVE_NAMES} == {
        name for name in aliases if name.startswith("glove.")
    }


# What is downloaded, and what is kept


@pytest.mark.parametrize("max_words", [None, 7])
def test_vectors_are_downloaded_once_and_then_mapped(
    archive, server, check, cache, said, max_words  # noqa: F811
):  # fmt: skip
    check(max_words=max_words)
    assert files_in(cache) == FILES
    assert f"{archive.url}: 0 MB" in said.text
    assert not check(max_words=max_words).vectors.flags.owndata
    assert len(server.requests) == 1


class Unpickled:
    """Tells by a file that it was unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("where", ["cache", "archive"])
def test_nothing_is_unpickled(server, archive, cache, check, members, tmp_path, where):  # noqa: F811
    trap = pickle.dumps(Unpickled(str(tmp_path / "unpickled")))
    if where == "cache":
        cache.mkdir()
        (cache / FILES[1]).write_bytes(members["glove_6B_50d_txt"])
        (cache / f"{FILES[1]}.pt").write_bytes(trap)
    else:
        content = pack(**members, glove_6B_50d_txt_pt=trap)
        server.answers = [serve(content)]
        digest = hashlib.sha256(content).hexdigest()
        publish(replace(archive, size=len(content), sha256=digest))
    check()
    assert not (tmp_path / "unpickled").exists()


def test_loading_does_not_end_the_verification_of_certificates(cache, check, members):
    cache.mkdir()
    (cache / FILES[1]).write_bytes(members["glove_6B_50d_txt"])
    check()
    assert ssl._create_default_https_context is ssl.create_default_context
    (cache / FILES[0]).write_bytes(b"the 1 2 x\n")
    refusal("torchtext:6B.100d")
    assert ssl._create_default_https_context is ssl.create_default_context


@pytest.mark.parametrize(
    "content", [b"", b"the 1 2 3\nof 1 2\n", b"the 1 2 x\n", b"\n\n"], ids=repr
)
def test_a_damaged_text_in_the_cache_is_named(cache, content):
    cache.mkdir()
    (cache / FILES[1]).write_bytes(content)
    line = refusal()
    assert line.startswith(f"torchtext cannot load {cache / FILES[1]}: ")
    assert "move it away to download it again, or name its path instead" in line


# In a pipeline


@pytest.mark.ray
@pytest.mark.slow
def test_prepare_downloads_the_vectors_once_and_leaves_nothing_without_them(
    archive, server, cache, tmp_path, sample_csv, resources, content  # noqa: F811
):  # fmt: skip
    config = settings.load(
        write_config(tmp_path, sample_csv), [f"prepare.vocabulary.vectors={SOURCE}"]
    )
    server.answers = [send(404)]
    with pytest.raises(UserError, match="the server answers 404"):
        stages.run(config, ["prepare"])
    assert not (tmp_path / "run/prepared").exists()
    del server.requests[:]
    server.answers = [serve(content)]
    (made,) = stages.run(config, ["prepare"])
    assert 0 < made.record["vocabulary"]["words_with_vector"] <= NUM_WORDS
    (again,) = stages.run(config, ["prepare"])
    assert (made.ran, again.ran, len(server.requests)) == (True, False, 1)
