"""Hashes of strings: the published ones, and those of pandas."""

import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.data import siphash
from sentiflow.data.arrays import CHECK_KEY, SPLIT_KEY, _mix_bits, hash_strings, string_buffers

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))


def hash_by_numpy(strings: pa.Array, key: str) -> np.ndarray:
    return _mix_bits(siphash.hash_strings(*string_buffers(strings), key.encode()))


def hash_by_pandas(strings: list[str], key: str) -> np.ndarray:
    return pd.util.hash_array(np.array(strings, object), hash_key=key, categorize=False)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 0x726FDB47DD0E0E31), (7, 0xAB0200F58B01D137), (8, 0x93F5F5799A932462),
     (15, 0xA129CA6149BE45E5)],
)  # fmt: skip
def test_hashes_are_those_of_the_reference_implementation(size: int, expected: int):
    data = np.arange(size, dtype=np.uint8)
    (found,) = siphash.hash_strings(data, np.array([0, size]), bytes(range(16)))
    assert int(found) == expected


@given(TEXTS)
def test_hashes_are_those_of_pandas(strings: list[str]):
    for key in (SPLIT_KEY, CHECK_KEY):
        found = hash_by_numpy(pa.array(strings, pa.string()), key)
        assert found.tolist() == hash_by_pandas(strings, key).tolist()


@given(TEXTS, st.integers(1, 5))
def test_hashes_do_not_depend_on_the_strings_beside(strings: list[str], piece: int):
    whole = hash_by_numpy(pa.array(strings, pa.string()), SPLIT_KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(siphash, "_PIECE", piece)
        cut = hash_by_numpy(pa.array(["before", *strings], pa.string())[1:], SPLIT_KEY)
    assert whole.tolist() == cut.tolist()


def test_every_length_around_a_word_of_eight_bytes_and_nul_and_long_strings():
    strings = ["\0" * size for size in range(40)] + ["é" * size for size in range(40)]
    strings += ["", "\ufffd", "a\0b", "x" * 10_000, "😀" * 1_000]
    found = hash_by_numpy(pa.array(strings), SPLIT_KEY)
    assert found.tolist() == hash_by_pandas(strings, SPLIT_KEY).tolist()
    assert len(set(found.tolist())) == len(set(strings))


def test_hashes_are_the_same_where_pandas_is_not_installed(monkeypatch):
    strings = ["", "so sad", "I love this place 😀", "x" * 100]
    expected = hash_by_pandas(strings, SPLIT_KEY).tolist()
    assert hash_strings(pa.array(strings)).tolist() == expected
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert hash_strings(pa.array(strings)).tolist() == expected
    assert hash_strings(np.array(strings, object)).tolist() == expected
    assert hash_strings(pa.array([], pa.string())).tolist() == []
