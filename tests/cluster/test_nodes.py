"""Every living node is asked once; what this node writes, all others must see."""

import os
import sys
import time

import pytest

from sentiflow.cluster import nodes
from sentiflow.cluster.nodes import NodeAnswer
from sentiflow.data import input_files
from sentiflow.errors import UserError
from sentiflow.storage import filesystem

# isort: split
from ray import cloudpickle

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests

REFUSAL = "reading key 'a' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject operation: x"


def answer_of(work, *arguments):
    (answer,) = nodes.on_each(lambda: work(*arguments))
    return answer


@pytest.mark.ray
def test_a_node_answers_with_its_name_and_what_it_has(resources):
    answer = answer_of(os.path.join, "a", "b")
    assert (answer.result, answer.problem) == ("a/b", "")
    assert answer.resources["CPU"] == resources.num_cpus
    assert answer.node


@pytest.mark.ray
@pytest.mark.parametrize(
    ("work", "arguments", "expected"),
    [
        (input_files.expand, [["/no/such"]], "no such file: /no/such: check the path"),
        (open, ["/no/such/file"], "No such file or directory: '/no/such/file'"),
        (int, ["x\ny"], "invalid literal"),
        (os._exit, [3], "worker"),
        (os.listdir, ["s3://me:secret@bucket"], "s3://bucket"),
        (exec, [f"raise OSError({REFUSAL!r})"], "the object store refuses (ACCESS_DENIED"),
    ],
)
def test_what_goes_wrong_on_a_node_is_its_answer_in_one_line(resources, work, arguments, expected):
    problem = answer_of(work, *arguments).problem
    assert expected in problem
    assert "\n" not in problem
    assert "secret" not in problem


@pytest.mark.ray
def test_a_node_that_does_not_answer_is_not_waited_for(resources, monkeypatch):
    monkeypatch.setattr(nodes, "_ANSWER_SECONDS", 0.5)
    answer = answer_of(time.sleep, 60)
    assert answer.problem == "no answer within 0.5 s"
    assert answer.result is None


@pytest.mark.ray
def test_a_node_whose_cores_are_all_taken_answers(resources):
    import ray

    sleep = ray.remote(num_cpus=1)(lambda: time.sleep(30))
    takers = [sleep.remote() for _ in range(resources.num_cpus)]
    try:
        assert answer_of(os.getpid).problem == ""
    finally:
        for task in takers:
            ray.cancel(task, force=True)


ALL = ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


@pytest.fixture
def asked(monkeypatch):
    """Do in this process, for one node after the other, what nodes would do."""
    now = []

    def on_each(work, *arguments):
        answers = []
        for one in ALL:
            now.append(one)
            try:
                answers.append(NodeAnswer(one, {}, work(*arguments)))
            except OSError as error:
                answers.append(NodeAnswer(one, {}, problem=str(error)))
        now.clear()
        return answers

    monkeypatch.setattr(nodes, "on_each", on_each)
    return now


@pytest.mark.parametrize("exists", [True, False])
def test_a_location_that_all_share_is_as_it_was_afterwards(asked, tmp_path, exists):
    if exists:
        (tmp_path / "run").mkdir()
    said = nodes.check_shared("output_uri", f"{tmp_path}/run")
    assert said == f"{tmp_path}/run can be read and written by 3 nodes"
    assert os.listdir(tmp_path) == ["run"] * exists
    assert not exists or not os.listdir(tmp_path / "run")


@pytest.mark.parametrize("broken", ["read_bytes", "write_bytes"])
def test_a_node_that_cannot_read_or_write_is_named(asked, tmp_path, monkeypatch, broken):
    works = getattr(filesystem, broken)

    def fail(*arguments):
        if asked and asked[-1] == ALL[1]:
            raise PermissionError("permission denied")
        return works(*arguments)

    monkeypatch.setattr(filesystem, broken, fail)
    line = (
        r"output_uri=.*run is not shared with node 10.0.0.3 \(permission denied\): set a location"
    )
    with pytest.raises(UserError, match=line):
        nodes.check_shared("output_uri", f"{tmp_path}/run")
    assert os.listdir(tmp_path) == []
