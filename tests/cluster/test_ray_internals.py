"""Private interfaces of Ray are used in one module, and nothing fails where one is gone."""

import ast
import logging

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


CALLS = {
    "speed_up_data": lambda: ray_internals.speed_up_data(),
    "retries_of_data": lambda: ray_internals.retries_of_data(3),
    "callbacks_of_data": lambda: ray_internals.callbacks_of_data(print),
    "loopback_only": lambda: ray_internals.loopback_only().__enter__(),
    "max_resources": lambda: ray_internals.max_resources(),
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_fails_where_an_interface_is_gone(monkeypatch, name):
    monkeypatch.setattr(ray_internals, "_find", lambda name: None)
    CALLS[name]()


@pytest.mark.parametrize("name", ["speed_up_data", "callbacks_of_data"])
def test_this_version_of_ray_has_them_all(monkeypatch, name):
    find, missing = ray_internals._find, []

    def look(name):
        if (found := find(name)) is None:
            missing.append(name)
        return found

    monkeypatch.setattr(ray_internals, "_find", look)
    CALLS[name]()
    assert not missing


def test_ray_data_reads_the_constants_that_speed_it_up():
    ray_internals.speed_up_data()
    state = ray_internals._find("ray.data._internal.execution.streaming_executor_state")
    assert state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S == 0.01
    manager = "ray.data._internal.execution.resource_manager.ResourceManager"
    assert ray_internals._find(manager).GLOBAL_LIMITS_UPDATE_INTERVAL_S == 0.05


def test_the_loopback_constant_is_restored():
    constants = ray_internals._find("ray._private.ray_constants")
    before = constants.ENABLE_RAY_CLUSTER
    with ray_internals.loopback_only():
        assert constants.ENABLE_RAY_CLUSTER is False
    assert constants.ENABLE_RAY_CLUSTER is before


def test_a_ray_that_may_listen_everywhere_is_reported(monkeypatch, caplog):
    monkeypatch.setattr(ray_internals, "_find", lambda name: None)
    with caplog.at_level(logging.WARNING), ray_internals.loopback_only():
        pass
    assert "listens on every interface" in caplog.text


@pytest.mark.ray
def test_the_state_of_the_cluster_can_be_read(resources, monkeypatch):
    assert ray_internals._find("ray._private.state.state.get_max_resources_from_cluster_config")
    assert ray_internals.max_resources() == {}
