"""An input that cannot be read counts as gone, and one line says why."""

import errno
import os

import pytest
from stages import finish

from sentiflow.data import followed_inputs, manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import UserError
from sentiflow.storage import filesystem, result_files

DATA = {"uri": "/data/prepared", "fingerprint": "d00d"}


@pytest.fixture
def trained(tmp_path):
    """Make a finished directory; return it as an input."""
    spec = OutputSpec("train", str(tmp_path / "trained"), {}, {"prepared": DATA})
    return manifest.reference(spec.uri, finish(spec))


def test_an_input_is_followed(trained):
    found = followed_inputs.follow({"training": trained}, "training")
    assert found == manifest.read(trained["uri"])
    assert followed_inputs.follow_directory(trained["uri"]) == found
    assert followed_inputs.follow_directory(trained["uri"], stage="score") is None


def test_an_input_that_is_gone_is_not_told(tmp_path, trained, caplog):
    gone = trained | {"uri": f"{tmp_path}/gone"}
    replaced = trained | {"fingerprint": "f00d"}
    for named in (gone, replaced):
        assert followed_inputs.follow({"training": named}, "training") is None
    assert followed_inputs.follow({}, "training") is None
    assert not caplog.messages


def test_a_damaged_input_is_told_once(trained, caplog):
    filesystem.write_bytes(f"{trained['uri']}/manifest.json", b"{}")
    for _ in range(3):
        assert followed_inputs.follow({"training": trained}, "training") is None
    (line,) = caplog.messages
    assert line.startswith(f"an input counts as gone: {trained['uri']}/manifest.json is not a ")
    with pytest.raises(UserError):
        manifest.read_input({"training": trained}, "training")


@pytest.mark.parametrize(
    ("stage", "inputs"),
    [("train", {}), ("train", {"prepared": {"fingerprint": "aa"}}), ("prepare", {"csv": DATA})],
)
def test_an_input_that_does_not_name_its_own_is_told(tmp_path, caplog, stage, inputs):
    spec = OutputSpec(stage, str(tmp_path / "made"), {}, inputs)
    named = manifest.reference(spec.uri, finish(spec))
    assert followed_inputs.follow({"made": named}, "made") is None
    assert "does not name its inputs" in caplog.text


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ECONNREFUSED])
def test_a_storage_that_fails_is_told(trained, caplog, monkeypatch, number):
    def fail(uri, *, max_bytes):
        raise OSError(number, os.strerror(number), f"{uri} {number}")

    monkeypatch.setattr(result_files, "read", fail)
    assert followed_inputs.follow({"training": trained}, "training") is None
    (line,) = caplog.messages
    assert "an input counts as gone: " in line
    assert os.strerror(number) in line
    assert "\n" not in line
