"""Strings of bytes -> hashes by SipHash-2-4, with numpy alone.

It hashes thousands of strings at a time: every operation is on an array that has a number of each
string. Strings of similar length stand together, so that few operations are on short arrays.

Reference: Aumasson and Bernstein, SipHash: a fast short-input PRF (INDOCRYPT 2012).
"""

from typing import NamedTuple

import numpy as np

_PIECE = 1 << 14
"""Strings hashed at a time: their numbers fit into the cache of a core."""
_WORD = 8
"""Bytes that one step reads."""
_START = [0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573]
"""First values of the state, before the key is added: "somepseudorandomlygeneratedbytes"."""
_END = np.uint64(0xFF)
"""Marks the end in the state."""


class _State(NamedTuple):
    """The four numbers that SipHash keeps of each string, uint64, and memory to work in."""

    v0: np.ndarray
    v1: np.ndarray
    v2: np.ndarray
    v3: np.ndarray
    work: np.ndarray

    @classmethod
    def make(cls, key: bytes, size: int) -> "_State":
        """Make the state of ``size`` strings before their first byte."""
        halves = np.tile(np.frombuffer(key, "<u8"), 2)
        first = np.array(_START, np.uint64) ^ halves
        v0, v1, v2, v3 = (np.full(size, number) for number in first)
        return cls(v0, v1, v2, v3, work=np.empty(size, np.uint64))

    def of_first(self, number: int) -> "_State":
        """View the state of the first strings."""
        return _State(*(array[:number] for array in self))

    def add(self, words: np.ndarray) -> None:
        """Add the next word of each string."""
        np.bitwise_xor(self.v3, words, self.v3)
        self.mix(rounds=2)
        np.bitwise_xor(self.v0, words, self.v0)

    def mix(self, *, rounds: int) -> None:
        """Mix the four numbers of each string."""
        v0, v1, v2, v3, work = self
        for _ in range(rounds):
            np.add(v0, v1, v0)
            np.add(v2, v3, v2)
            _rotate(v1, 13, work)
            _rotate(v3, 16, work)
            np.bitwise_xor(v1, v0, v1)
            np.bitwise_xor(v3, v2, v3)
            _rotate(v0, 32, work)
            np.add(v2, v1, v2)
            np.add(v0, v3, v0)
            _rotate(v1, 17, work)
            _rotate(v3, 21, work)
            np.bitwise_xor(v1, v2, v1)
            np.bitwise_xor(v3, v0, v3)
            _rotate(v2, 32, work)


# Arrays of no dimension: numpy would convert a number at each call.
_SHIFTS = {bits: np.array(bits, np.uint64) for bits in (13, 16, 17, 21, 32, 43, 47, 48, 51)}


def _rotate(numbers: np.ndarray, bits: int, work: np.ndarray) -> None:
    """Rotate numbers of 64 bits to the left, in place."""
    np.right_shift(numbers, _SHIFTS[64 - bits], work)
    np.left_shift(numbers, _SHIFTS[bits], numbers)
    np.bitwise_or(numbers, work, numbers)


def hash_strings(data: np.ndarray, offsets: np.ndarray, key: bytes) -> np.ndarray:
    """Hash N strings of bytes: N uint64.

    Args:
        data: The bytes of all strings, uint8.
        offsets: N + 1 positions of the strings in ``data``.
        key: 16 bytes.

    Example:
        >>> data = np.frombuffer(b"so sad", np.uint8)
        >>> hash_strings(data, np.array([0, 0, 6]), bytes(range(16))).tolist()
        [8246050544436514353, 10038976852535666058]
    """
    num_strings = len(offsets) - 1
    hashes = np.empty(num_strings, np.uint64)
    for start in range(0, num_strings, _PIECE):
        piece = offsets[start : start + _PIECE + 1]
        own_data = data[piece[0] : piece[-1]]
        hashes[start : start + len(piece) - 1] = _hash_piece(own_data, piece - piece[0], key)
    return hashes


def _hash_piece(data: np.ndarray, offsets: np.ndarray, key: bytes) -> np.ndarray:
    """Hash N strings, given their bytes and N + 1 offsets."""
    lengths = np.diff(offsets)
    order = np.argsort(lengths)[::-1]  # the longest first
    lengths = lengths[order]
    places = offsets[order].astype(np.int64)
    whole_words = lengths // _WORD
    padded = np.concatenate([data, np.zeros(_WORD, np.uint8)])
    # The word that begins at each byte. The words overlap in memory.
    words = np.ndarray(len(data) + 1, "<u8", padded, strides=(1,))
    state = _State.make(key, len(order))
    for number in range(whole_words[0]):
        num_left = int(np.count_nonzero(whole_words > number))
        state.of_first(num_left).add(words[places[:num_left]])
        places[:num_left] += _WORD
    num_bits = (8 * (lengths % _WORD)).astype(np.uint64)
    rest = words[places] & ((np.uint64(1) << num_bits) - np.uint64(1))
    state.add(rest | lengths.astype(np.uint64) << np.uint64(56))
    np.bitwise_xor(state.v2, _END, state.v2)
    state.mix(rounds=4)
    hashes = np.empty(len(order), np.uint64)
    hashes[order] = state.v0 ^ state.v1 ^ state.v2 ^ state.v3
    return hashes
