"""The model behind ``docs/scaling.md`` is one of time: more of anything takes no less of it."""

import importlib.util
import sys
from dataclasses import replace

import pytest
from conftest import PROJECT


@pytest.fixture(scope="module")
def scaling():
    path = PROJECT / "benchmarks/scaling_model.py"
    spec = importlib.util.spec_from_file_location("scaling_model", path)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def model(scaling):
    return scaling.load()


@pytest.fixture
def place(scaling):
    return scaling.Place(scaling.C7I_8XL, 4)


def test_the_page_holds_the_tables_that_the_model_gives(scaling, model):
    page = scaling.PAGE.read_text()
    assert scaling.put(page, model) == page
    assert all(f"<!-- {name} -->" in page for name in scaling.TABLES)


@pytest.mark.parametrize("stage", ["prepare", "score"])
def test_more_rows_take_longer_and_more_nodes_never_do(model, place, stage):
    seconds = getattr(model, stage)
    times = [seconds(rows, 100_000, place).seconds for rows in (1e6, 1e7, 1e8, 1e9, 1e10)]
    assert times == sorted(times)
    nodes = [seconds(1e9, 100_000, replace(place, nodes=n)).seconds for n in (1, 2, 8, 64, 512)]
    assert nodes == sorted(nodes, reverse=True)


def test_a_pass_is_as_slow_as_the_slowest_of_what_it_needs(scaling, model, place):
    one = scaling.Pass("any", tasks=1000, cpu=1e5)
    assert model.run(one, place).limit == "cores"
    assert model.run(replace(one, cpu=1.0), place).limit == "driver"
    assert model.run(replace(one, bytes=1e14), place).limit == "network"
    assert model.run(replace(one, gets=1e7), place).limit == "waiting for objects"
    many = replace(place, nodes=10_000)
    assert model.run(replace(one, tasks=10**6, cpu=0.0, gets=1e9), many).limit == "requests"


def test_cores_that_have_no_part_are_of_no_use(scaling, model, place):
    one = scaling.Pass("any", tasks=16, cpu=160.0)
    assert model.run(one, place).seconds == model.run(one, replace(place, nodes=1)).seconds == 10


def test_a_simulated_node_of_half_a_core_computes_half_as_fast(scaling, model):
    one = scaling.Pass("any", tasks=32, cpu=320.0)
    core = scaling.Place(scaling.Machine("", 1, 0, 1, 0), 2, scaling.DISK)
    assert model.run(one, replace(core, speed=0.5)).seconds == 2 * model.run(one, core).seconds


def test_workers_share_the_rows_and_pay_for_messages(model, place):
    alone, eight = (model.train(1e8, 1, 2_048, workers, place) for workers in (1, 8))
    assert 1 < alone.seconds / eight.seconds < 8
    assert model.message_seconds(2_048, 1, place) == 0
