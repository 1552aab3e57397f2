"""Each fault in what nodes see of the world is found, named, and told with its cure."""

import pytest
from test_node_checks import node, the

from sentiflow.cluster.doctor import storage_checks
from sentiflow.cluster.nodes import NodeAnswer
from sentiflow.cluster.shared_storage import Exchange

CSV, RUN, SERVER = "/data/tweets.csv", "/data/run", "http://10.0.0.9:5000"


def read(number, **files):
    found = {CSV: {"bytes": 100, "problem": ""}} | files
    return NodeAnswer(node(number), found)


def exchange(problems=("", ""), *, unseen=(), unread=("", "")):
    written = [NodeAnswer(node(n), problem=p) for n, p in enumerate(problems, 2)]
    seen = [NodeAnswer(node(n), problem=p) for n, p in enumerate(unread, 2)]
    return Exchange(written, seen, list(unseen))


def test_input_that_all_nodes_read_is_well():
    finding = the(storage_checks.check_input([read(2), read(3)]))
    assert finding.what == "1 file, 100 bytes, read on 2 nodes"
    assert "7 more were not looked at" in the(storage_checks.check_input([read(2)], 7)).what


def test_input_that_a_node_cannot_read_is_an_error_that_names_it():
    gone = {CSV: {"bytes": 0, "problem": "no such file or directory"}}
    finding = the(storage_checks.check_input([read(2), read(3, **gone)]))
    assert (finding.level, finding.nodes) == ("error", ("10.0.0.3",))
    assert finding.what == f"{CSV} cannot be read on node 10.0.0.3: no such file or directory"


def test_many_files_that_cannot_be_read_are_one_finding():
    gone = {f"s3://bucket/{n}.csv": {"bytes": 0, "problem": "access denied"} for n in range(9)}
    finding = the(storage_checks.check_input([read(2, **gone)]))
    assert finding.what.startswith("s3://bucket/0.csv and 8 other files cannot be read")
    assert "AWS_ACCESS_KEY_ID" in finding.do


def test_another_file_of_the_same_name_is_an_error():
    other = {CSV: {"bytes": 99, "problem": ""}}
    finding = the(storage_checks.check_input([read(2), read(3), read(4, **other)]))
    assert finding.level == "error"
    assert "99 bytes on node 10.0.0.4, 100 bytes on nodes 10.0.0.2 and 10.0.0.3" in finding.what


def test_output_that_all_nodes_see_is_well():
    assert "each other's files" in the(storage_checks.check_output(RUN, exchange())).what


@pytest.mark.parametrize(
    ("uri", "done", "expected"),
    [
        (RUN, exchange(("", "no room")), "cannot be written on node 10.0.0.3: no room"),
        (RUN, exchange(unread=("", "no way")), "cannot be read on node 10.0.0.3: no way"),
        (RUN, exchange(unseen=[("10.0.0.3", "10.0.0.2")]), "node 10.0.0.3 does not see"),
        ("s3://b/run", exchange(("", "denied")), "cannot be written on node 10.0.0.3: denied"),
    ],
)  # fmt: skip
def test_output_that_a_node_cannot_share_is_an_error(uri, done, expected):
    finding = the(storage_checks.check_output(uri, done))
    assert finding.level == "error"
    assert expected in finding.what
    assert "10.0.0.3" in finding.nodes
    assert ("AWS_ACCESS_KEY_ID" in finding.do) == uri.startswith("s3:")


def test_a_file_system_that_hangs_is_no_matter_of_rights():
    finding = the(storage_checks.check_output(RUN, exchange(("", "no answer within 40 s"))))
    assert "hangs" in finding.do


def asked(*results):
    return [NodeAnswer(node(n), result) for n, result in enumerate(results, 2)]


def test_a_tracking_server_must_answer_every_node():
    assert storage_checks.check_tracking(SERVER, asked("", ""), num_nodes=2).level == "ok"
    finding = storage_checks.check_tracking(SERVER, asked("", "connection refused"), num_nodes=2)
    assert (finding.level, finding.nodes) == ("error", ("10.0.0.3",))
    assert "connection refused" in finding.what
    silent = [NodeAnswer(node(2), problem="no answer within 20 s")]
    assert storage_checks.check_tracking(SERVER, silent, num_nodes=1).level == "error"
    optional = storage_checks.check_tracking(SERVER, asked("x"), num_nodes=1, required=False)
    assert optional.level == "warning"


def test_a_file_as_tracking_store_is_for_one_node_alone():
    uri = "sqlite:////data/mlflow.db"
    assert storage_checks.check_tracking(uri, [], num_nodes=1).level == "ok"
    assert storage_checks.check_tracking(uri, [], num_nodes=2).level == "error"


@pytest.mark.parametrize(
    ("address", "status", "num_nodes", "has_token", "level"),
    [
        ("127.0.0.1:8265", 401, 3, True, "ok"),
        ("127.0.0.1:8265", 200, 1, False, "warning"),
        ("127.0.0.1:8265", 200, 2, False, "error"),
        ("10.0.0.2:8265", 200, 1, False, "error"),
        ("10.0.0.2:8265", 200, 1, True, "error"),
        ("10.0.0.2:8265", 401, 3, True, "warning"),
        ("10.0.0.2:8265", None, 3, True, "unchecked"),
        ("", None, 1, True, "ok"),
        ("", None, 1, False, "warning"),
        ("", None, 2, False, "error"),
    ],
)
def test_an_open_dashboard_is_found(address, status, num_nodes, has_token, level):
    answers = [NodeAnswer(node(), status, problem="" if status else "it is away")]
    finding = storage_checks.check_dashboard(
        address, answers, num_nodes=num_nodes, has_token=has_token
    )
    assert finding.level == level
    assert ("CVE-2023-48022" in finding.why) == (status == 200)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o600, "for its owner alone"), (0o400, "for its owner alone"), (0o644, "open to all users"),
     (0o640, "open to its group"), (0o604, "open to all users")],
)  # fmt: skip
def test_a_token_that_others_can_read_is_found(mode, expected):
    tokens = {"10.0.0.2": None, "10.0.0.3": {"path": "/home/a/.ray/auth_token", "mode": mode}}
    finding = the(storage_checks.check_token(tokens))
    assert expected in finding.what
    assert (finding.level == "error") == bool(mode & 0o077)
    assert finding.nodes == (("10.0.0.3",) if mode & 0o077 else ())


def test_no_token_to_guard_is_well():
    assert the(storage_checks.check_token({"10.0.0.2": None})).level == "ok"


def test_what_is_on_the_heads_disk_alone_is_told():
    other = "/data/more.csv"
    warning, error = storage_checks.check_heads_disk([CSV, other, RUN], [RUN, "/shared/scored"])
    assert (warning.check, warning.level, error.check, error.level) == (
        *("input", "warning"),
        *("output", "error"),
    )
    assert warning.what == f"{CSV} and 1 other file: on a disk of the head"
    assert error.what == f"{RUN} is on a disk of the head"
    assert storage_checks.check_heads_disk([], [RUN]) == []
