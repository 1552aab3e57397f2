import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sentiflow.config.train_sections import BagSettings, RnnSettings
from sentiflow.models import array_networks, cpu, networks
from sentiflow.models.encoded_rows import EncodedRows

LIBRARIES = cpu._find_libraries()


def count_threads():
    """List the numbers of threads of the libraries that multiply matrices for numpy."""
    return [each["num_threads"] for each in LIBRARIES.info() if each["user_api"] == "blas"]


def set_threads(number):
    """Let products use so many threads."""
    # in a thread that ends: threadpoolctl lets no other thread set it while that one lives
    user = threading.Thread(target=LIBRARIES.limit, kwargs={"limits": number, "user_api": "blas"})
    user.start()
    user.join()


@pytest.fixture(autouse=True)
def threads_before():
    """Let products use two threads during a test, where the library has a limit for all threads."""
    original = count_threads()
    set_threads(2)
    before = count_threads()
    yield before
    assert count_threads() == before
    if original:
        set_threads(original[0])


def count_within():
    """List the numbers of threads within a block, and within a thread that is started in it."""
    with cpu.one_thread(), ThreadPoolExecutor(1) as pool:
        return [*count_threads(), *pool.submit(count_threads).result()]


def test_products_use_two_threads_without_a_block(threads_before):
    if (
        not LIBRARIES.select(internal_api="openblas")
        .select(threading_layer="pthreads")
        .lib_controllers
    ):
        pytest.skip("numpy's library is not OpenBLAS with threads of its own")
    assert set(threads_before) == {2}


def test_products_use_one_thread_within_a_block(threads_before):
    assert set(count_within()) <= {1}
    assert count_threads() == threads_before


def test_threads_that_come_later_have_the_limit_too():
    for _ in range(2):
        assert set(count_within()) <= {1}
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(lambda _: count_within(), range(4)):
                assert set(found) <= {1}


def test_the_limit_lasts_until_the_last_block_of_all_threads_ends(threads_before):
    second_began = threading.Event()
    first_ended = threading.Event()

    def begin_second():
        with cpu.one_thread():
            second_began.set()
            assert first_ended.wait(60)
            return count_threads()

    with ThreadPoolExecutor(1) as pool:
        with cpu.one_thread():
            second = pool.submit(begin_second)
            assert second_began.wait(60)
        first_ended.set()
        assert set(second.result()) <= {1}
        assert count_threads() == threads_before
        assert set(count_within()) <= {1}


def test_a_block_that_fails_ends_the_limit(threads_before):
    with pytest.raises(ValueError, match="no product"), cpu.one_thread():
        raise ValueError("no product")
    assert count_threads() == threads_before
    assert set(count_within()) <= {1}


@pytest.mark.parametrize("settings", [RnnSettings(hidden_size=4), BagSettings()])
@pytest.mark.parametrize("num_rows", [1, 100])
def test_threads_of_a_user_that_score_at_once_use_one_thread_each(settings, num_rows, monkeypatch):
    sizes = {"vocabulary_size": 9, "embedding_dim": 3, "num_classes": 2}
    network = networks.build(settings, **sizes)
    in_numpy = array_networks.build(settings, network.to_arrays(), **sizes)
    ids = np.ones(num_rows, np.int32)
    rows = EncodedRows(ids, np.arange(num_rows + 1), np.zeros(num_rows, np.int8))
    in_numpy.logits(rows)  # the main thread was the first
    inside = threading.Barrier(2)
    found = []
    affine = array_networks.ArrayNetwork._affine

    def count_and_multiply(self, name, inputs):
        inside.wait(60)
        found.extend(count_threads())
        inside.wait(60)
        return affine(self, name, inputs)

    monkeypatch.setattr(array_networks.ArrayNetwork, "_affine", count_and_multiply)
    users = [threading.Thread(target=in_numpy.logits, args=[rows]) for _ in range(2)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert len(found) >= 2 * len(count_threads())
    assert set(found) <= {1}
