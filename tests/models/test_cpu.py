import numpy as np
from threadpoolctl import threadpool_info

from sentiflow.models import cpu


def count_threads():
    """List the numbers of threads of the libraries that multiply matrices for numpy."""
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def test_products_use_one_thread_until_the_last_block_ends():
    assert (np.ones((2, 2)) @ np.ones((2, 2))).sum() == 8
    before = count_threads()
    first = cpu.one_thread()
    second = cpu.one_thread()
    first.__enter__()
    assert set(count_threads()) <= {1}
    second.__enter__()
    first.__exit__(None, None, None)  # as another thread may: the first to begin ends first
    assert set(count_threads()) <= {1}
    second.__exit__(None, None, None)
    assert count_threads() == before
    with cpu.one_thread():
        assert set(count_threads()) <= {1}
    assert count_threads() == before
