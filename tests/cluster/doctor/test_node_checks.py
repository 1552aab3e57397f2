"""Each fault of a node is found, named, and told with its cure; without faults all is well."""

import pytest

from sentiflow.cluster.doctor import node_checks, software_checks
from sentiflow.cluster.doctor.diagnosis import Finding
from sentiflow.cluster.nodes import Node, NodeAnswer

VERSIONS = {
    "python": "3.11.7", "sentiflow": "0.1.0", "ray": "2.60.0", "torch": "2.13.0",
    "pyarrow": "25.0.1", "pandas": "3.1.1",
    "numpy": "2.4.6", "mlflow": "3.17.2", "torchtext": "0.6.0",
}  # fmt: skip
REQUIREMENTS = ["ray[data,train]<2.61,>=2.60", "pandas<4,>=2.2", "torch>=2.6", "numpy>=2"]
GB = 1_000_000_000
FINE = {
    "versions": VERSIONS,
    "code": "abc",
    "session_disk": {"total": 100 * GB, "free": 50 * GB},
    "disks": {"/data/run": {"total": 100 * GB, "free": 50 * GB}},
    "memory_bytes": 16 * GB,
    "shm_bytes": 8 * GB,
    "open_files": 65536,
    "address": {"is_own": True, "by_name": "127.0.1.1"},
}
TORCH = {"version": "2.13.0+cu130", "built_for": "13.0", "gpus": [], "problem": ""}
GPU = {"name": "H100", "bf16": True, "problem": ""}


def node(number=2, *, is_alive=True, num_gpus=0, store=2 * GB):
    return Node(
        id=f"{number:056x}",
        name=f"10.0.0.{number}",
        is_alive=is_alive,
        num_cpus=4,
        num_gpus=num_gpus,
        object_store_bytes=store,
        session_dir="/tmp/ray/session_1",
        is_head=number == 2,
    )


def looks(**changed):
    """Give the answers of two nodes that are well, and of 10.0.0.4, which has changed."""
    asked = [NodeAnswer(node(number), FINE) for number in (2, 3)]
    return [*asked, NodeAnswer(node(4), FINE | changed)]


def versions(**changed):
    return looks(versions=VERSIONS | changed)


def the(findings):
    (finding,) = findings
    assert finding.level == "ok" or (finding.why and finding.do)
    return finding


def test_all_is_well_with_nodes_that_are_well():
    nodes = [node(2), node(3), node(4)]
    found = [
        *node_checks.check_nodes(nodes, looks(), place="here"),
        *software_checks.check_versions(looks(), REQUIREMENTS),
        *node_checks.check_disks(looks(), 10 * GB),
        *node_checks.check_memory(looks()),
        *node_checks.check_open_files(looks()),
        *node_checks.check_names(looks()),
        *software_checks.check_gpus([NodeAnswer(node(), TORCH)]),
        node_checks.check_clocks([NodeAnswer(node(), 100.01, asked=100.0, answered=100.02)]),
    ]
    assert [finding.level for finding in found] == ["ok"] * 7
    assert found[0].what == "here: 3 nodes, 12 cores, 0 GPUs"
    assert "ray 2.60.0" in found[1].what


@pytest.mark.parametrize(
    "check",
    [
        lambda: software_checks.check_versions([], REQUIREMENTS),
        lambda: node_checks.check_disks([], 1),
        lambda: node_checks.check_memory([]),
        lambda: node_checks.check_open_files([]),
        lambda: software_checks.check_gpus([]),
        lambda: [node_checks.check_clocks([])],
    ],
)
def test_a_check_that_cannot_be_made_is_said(check):
    (finding,) = check()
    assert finding.level == "unchecked"


def test_a_node_that_does_not_answer_is_an_error_and_a_lost_one_a_warning():
    silent = NodeAnswer(node(3), problem="no answer within 20 s")
    listed = [node(2), node(3), node(4, is_alive=False)]
    error, warning = node_checks.check_nodes(listed, [silent], place="here")
    assert (error.level, error.nodes) == ("error", ("10.0.0.3",))
    assert "no answer within 20 s" in error.what
    assert (warning.level, warning.nodes) == ("warning", ("10.0.0.4",))


def test_a_node_that_was_started_again_is_not_lost():
    listed = [node(2), node(2, is_alive=False)]
    assert the(node_checks.check_nodes(listed, [], place="here")).level == "ok"


def test_a_node_without_sentiflow_is_told_how_to_get_it():
    answer = NodeAnswer(node(), problem="ModuleNotFoundError: No module named 'sentiflow'")
    assert "--working-dir" in the(node_checks.check_nodes([node()], [answer], place="here")).do


@pytest.mark.parametrize(
    ("name", "version", "level"),
    [
        ("ray", "2.60.1", "error"),
        ("torch", "2.12.0", "error"),
        ("sentiflow", "0.2.0", "error"),
        ("python", "3.12.1", "error"),
        ("python", "3.11.9", "warning"),
        ("numpy", "2.4.5", "warning"),
        ("mlflow", "", "error"),
    ],
)
def test_a_node_of_another_version_is_named_with_both_versions(name, version, level):
    finding = the(software_checks.check_versions(versions(**{name: version}), REQUIREMENTS))
    assert finding.level == level
    assert f"{name} differs: {VERSIONS[name]} on nodes 10.0.0.2 and 10.0.0.3, " in finding.what
    assert f"{version or 'none'} on node 10.0.0.4" in finding.what
    assert finding.nodes == ("10.0.0.4",)


def test_a_version_that_sentiflow_does_not_ask_for_is_an_error_even_if_all_have_it():
    all_old = [
        NodeAnswer(node(n), FINE | {"versions": VERSIONS | {"ray": "2.9.0"}}) for n in (2, 3)
    ]
    finding = the(software_checks.check_versions(all_old, REQUIREMENTS))
    assert (
        finding.what
        == "ray 2.9.0 on nodes 10.0.0.2 and 10.0.0.3; sentiflow asks for ray<2.61,>=2.60"
    )
    one_old = the(software_checks.check_versions(versions(pandas="1.5.3"), REQUIREMENTS))
    assert (one_old.level, one_old.nodes) == ("error", ("10.0.0.4",))


def test_other_code_of_the_same_version_is_an_error():
    finding = the(software_checks.check_versions(looks(code="def"), REQUIREMENTS))
    assert (finding.level, "code of sentiflow" in finding.what) == ("error", True)


def test_without_known_requirements_the_versions_are_compared_alone():
    good, unchecked = software_checks.check_versions(looks(), None)
    assert (good.level, unchecked.level) == ("ok", "unchecked")


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0.5, "ok"), (2, "warning"), (-2, "warning"), (31, "error"), (-901, "error")],
)
def test_a_clock_is_judged_by_how_far_it_is_off(ahead, level):
    right = NodeAnswer(node(2), 100.0, asked=99.9, answered=100.1)
    wrong = NodeAnswer(node(3), 100.0 + ahead, asked=99.9, answered=100.1)
    finding = node_checks.check_clocks([right, wrong])
    assert finding.level == level
    if level != "ok":
        assert f"node 10.0.0.3 is {abs(ahead):.1f} s" in finding.what
        assert ("ahead of" if ahead > 0 else "behind") in finding.what


def test_a_slow_answer_does_not_make_a_clock_wrong():
    slow = NodeAnswer(node(), 100.0, asked=100.0, answered=110.0)
    assert node_checks.check_clocks([slow]).level == "ok"
    assert node_checks.check_clocks([NodeAnswer(node(), 100.0, asked=130.0, answered=132.0)]).nodes


@pytest.mark.parametrize(
    ("changed", "level", "expected"),
    [
        ({"session_disk": {"total": 100 * GB, "free": 4 * GB}}, "error", "Ray's own files"),
        ({"session_disk": {"total": 10 * GB, "free": 1 * GB}}, "warning", "Ray's own files"),
        ({"disks": {"/data/run": {"free": 9 * GB}}}, "error", "needs about 10.0 GB"),
    ],
)
def test_a_disk_that_is_too_full_is_found(changed, level, expected):
    finding = the(node_checks.check_disks(looks(**changed), 10 * GB))
    assert (finding.level, finding.nodes) == (level, ("10.0.0.4",))
    assert expected in finding.what


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (NodeAnswer(node(), FINE | {"memory_bytes": 2 * GB}), "500.0 MB of memory for each core"),
        (NodeAnswer(node(store=90_000_000), FINE), "an object store of 90.0 MB"),
        (NodeAnswer(node(), FINE | {"shm_bytes": 67_108_864}), "a /dev/shm of 67.1 MB"),
    ],
)
def test_too_little_memory_is_a_warning(answer, expected):
    finding = the(node_checks.check_memory([answer]))
    assert (finding.level, finding.nodes) == ("warning", ("10.0.0.2",))
    assert expected in finding.what


def test_a_system_without_shared_memory_is_well():
    assert the(node_checks.check_memory(looks(shm_bytes=None))).level == "ok"


def test_few_open_files_are_a_warning_and_no_limit_is_well():
    finding = the(node_checks.check_open_files(looks(open_files=1024)))
    assert (finding.level, finding.nodes) == ("warning", ("10.0.0.4",))
    assert the(node_checks.check_open_files(looks(open_files=-1))).what == "65,536 a process"


@pytest.mark.parametrize(
    ("counted", "found", "level", "expected"),
    [
        (0, {}, "ok", "no GPU"),
        (1, {"gpus": [GPU]}, "ok", "1 GPU: H100; bf16, too"),
        (1, {"built_for": ""}, "error", "built for CPU alone, can use none"),
        (2, {"gpus": [GPU]}, "error", "Ray counts 2 GPUs on node 10.0.0.2"),
        (1, {"gpus": [GPU | {"problem": "CUDA error 9"}]}, "error", "can use none (CUDA error 9)"),
        (0, {"gpus": [GPU]}, "warning", "Ray counts none"),
        (1, {"gpus": [GPU | {"bf16": False}]}, "warning", "1 GPU without bf16"),
        (0, {"problem": "torch does not work: ImportError: libcudart"}, "error", "libcudart"),
    ],
)  # fmt: skip
def test_gpus_are_to_be_counted_by_ray_and_usable_by_torch(counted, found, level, expected):
    answer = NodeAnswer(node(num_gpus=counted), TORCH | found)
    finding = the(software_checks.check_gpus([answer]))
    assert finding.level == level
    assert expected in finding.what


def test_gpus_that_an_autoscaler_may_add_are_unchecked():
    finding = the_unchecked(software_checks.check_gpus([NodeAnswer(node(), TORCH)], may_come=True))
    assert "still to come" in finding.what
    has_one = NodeAnswer(node(num_gpus=1), TORCH | {"gpus": [GPU]})
    assert the(software_checks.check_gpus([has_one], may_come=True)).level == "ok"


def the_unchecked(findings):
    (finding,) = findings
    assert finding.level == "unchecked"
    return finding


def test_what_is_well_on_the_head_alone_is_not_said_to_be_well_everywhere():
    found = [
        *(Finding(check, "ok", "fine") for check in ("nodes", "workers", "output", "torch")),
        Finding("disk", "error", "full"),
    ]
    warning, *others = node_checks.doubt(found)
    assert (warning.check, warning.level) == ("nodes", "warning")
    assert "no worker node is there yet" in warning.what
    assert [f.level for f in others] == ["ok", "ok", "unchecked", "unchecked", "error"]


@pytest.mark.parametrize(
    ("is_own", "by_name", "is_found"),
    [
        (True, "127.0.1.1", False),
        (False, "10.0.0.4", False),
        (False, "127.0.1.1", True),
        (False, "", True),
    ],
)
def test_a_node_whose_workers_would_name_loopback_to_others_is_found(is_own, by_name, is_found):
    address = {"is_own": is_own, "by_name": by_name}
    found = node_checks.check_names(looks(address=address))
    assert [f.nodes for f in found] == [("10.0.0.4",)] * is_found
    assert node_checks.check_names([NodeAnswer(node(4), FINE | {"address": address})]) == []
