"""Private interfaces of Ray are used in one module only, and this Ray has them."""

import ast

import pytest
from conftest import PROJECT

from sentiflow.cluster import ray_internals

HOME = PROJECT / "sentiflow/cluster/ray_internals.py"


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def private_names(path):
    """List the private names of Ray that a module imports or reaches by their full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        for name in names:
            first, *others = name.split(".")
            if first == "ray" and any(is_private(other) for other in others):
                yield name


def test_no_other_module_uses_private_interfaces_of_ray():
    modules = [p for folder in ("sentiflow", "jobs") for p in (PROJECT / folder).rglob("*.py")]
    users = {path for path in modules if list(private_names(path))}
    assert users == {HOME}


def test_ray_data_has_what_is_used_of_it():
    from ray.data._internal.execution import resource_manager, streaming_executor_state

    assert resource_manager.ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S
    assert streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S
    assert [base.__name__ for base in ray_internals.make_data_callbacks(print)[0].__bases__] == [
        "ExecutionCallback"
    ]


def test_the_loopback_constant_is_restored():
    from ray._private import ray_constants as constants

    before = constants.ENABLE_RAY_CLUSTER
    with ray_internals.loopback_only():
        assert constants.ENABLE_RAY_CLUSTER is False
    assert constants.ENABLE_RAY_CLUSTER is before


@pytest.mark.ray
def test_the_state_of_the_cluster_can_be_read(resources, monkeypatch):
    assert ray_internals.max_resources() == {}
