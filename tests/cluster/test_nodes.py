"""Every living node is asked once, and a node that gives nothing says why in one line."""

import os
import time

import pytest

from sentiflow.cluster import nodes
from sentiflow.storage import globs

pytestmark = pytest.mark.ray

REFUSAL = "reading key 'a' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject operation: x"


def answer_of(work, *arguments):
    (answer,) = nodes.on_each(work, *arguments)
    return answer


def test_a_node_answers_with_its_name_and_what_it_has(resources):
    answer = answer_of(os.path.join, "a", "b")
    assert (answer.result, answer.problem) == ("a/b", "")
    assert answer.resources["CPU"] == resources.num_cpus
    assert answer.node


@pytest.mark.parametrize(
    ("work", "arguments", "expected"),
    [
        (globs.expand, [["/no/such"]], "no such file: /no/such: check the path"),
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


def test_a_node_that_does_not_answer_is_not_waited_for(resources, monkeypatch):
    monkeypatch.setattr(nodes, "_ANSWER_SECONDS", 0.5)
    answer = answer_of(time.sleep, 60)
    assert answer.problem == "no answer within 0.5 s"
    assert answer.result is None


def test_a_node_whose_cores_are_all_taken_answers(resources):
    import ray

    sleep = ray.remote(num_cpus=1)(lambda: time.sleep(30))
    takers = [sleep.remote() for _ in range(resources.num_cpus)]
    try:
        assert answer_of(os.getpid).problem == ""
    finally:
        for task in takers:
            ray.cancel(task, force=True)
