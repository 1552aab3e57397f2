"""Recurrent layers and poolings in numpy, for scoring on a CPU.

A layer takes one step after the other over a batch of texts that are sorted by length, shortest
first. The texts that still have a token at a step are thus the last ones of the batch, and no time
is spent on padding. The gates of a step that are due to its word are looked up in a table.

A sigmoid is computed as ``(1 + tanh(x / 2)) / 2``. The halves are factors of the weights. The gates
of a step are separate matrices: numpy is several times slower on parts of the rows of a matrix.

Shape: (B texts, T steps, H features of the states, G gates, P tokens of all texts)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_HALF = np.float32(0.5)
_ONE = np.float32(1)


@dataclass(frozen=True)
class Steps:
    """The tokens of a batch by steps: those of the first step come first."""

    token_ids: np.ndarray
    """``(P,)``: rows of a table. Within a step they have the order of the texts."""
    lengths: np.ndarray
    """``(B,)``: number of tokens of each text, at least 1, in ascending order."""

    @classmethod
    def of(cls, token_ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> "Steps":
        """Order the tokens of a batch by steps.

        Args:
            token_ids: The tokens of all texts, one text after the other.
            starts: ``(B,)``: position of the first token of each text in ``token_ids``.
            lengths: ``(B,)``: as :attr:`lengths`.
        """
        assert bool((np.diff(lengths) >= 0).all())
        step = np.arange(lengths[-1])[:, None]
        is_token = step < lengths
        positions = (starts + step)[is_token]
        return cls(token_ids[positions], lengths)

    def places(self) -> list[slice]:
        """Return the place of each step's tokens in ``token_ids``."""
        step = np.arange(self.lengths[-1])
        num_texts = len(self.lengths) - np.searchsorted(self.lengths, step, side="right")
        ends = np.cumsum(num_texts)
        starts = ends - num_texts
        return [slice(*pair) for pair in zip(starts.tolist(), ends.tolist(), strict=True)]


def rows_at(array: np.ndarray, place: slice) -> np.ndarray:
    """Return the rows of the texts that have a token at a step, given the step's place."""
    return array[len(array) - (place.stop - place.start) :]


@dataclass(frozen=True)
class Layer:
    """A recurrent layer of one direction."""

    cell: str
    """``rnn``, ``gru`` or ``lstm``."""
    input_weights: np.ndarray
    """``(G, D, H)``, with the factors of the gates."""
    bias: np.ndarray
    """``(G, H)``: the biases that are added to the products with the inputs."""
    state_weights: np.ndarray
    """``(G, H, H)``, with the factors of the gates."""
    candidate_bias: np.ndarray
    """``(H,)``: half of the bias that a GRU multiplies by its reset gate."""

    @classmethod
    def of(cls, cell: str, arrays: Mapping[str, np.ndarray]) -> "Layer":
        """Make a layer from PyTorch's weights, as a package names them."""
        hidden_size = arrays["weight_hh_l0"].shape[1]
        order = _GATES[cell]
        factors = np.array(_FACTORS[cell], np.float32)[:, None, None]
        state_factors = factors

        def split(name: str) -> np.ndarray:
            """Split into gates: ``(G, H, ...)``."""
            array = arrays[name]
            by_gate: np.ndarray = array.reshape(-1, hidden_size, *array.shape[1:])[order]
            return by_gate

        state_bias = split("bias_hh_l0")
        candidate_bias = np.zeros(hidden_size, np.float32)
        if cell == "gru":
            state_factors = np.full_like(factors, _HALF)
            candidate_bias = _HALF * state_bias[-1]
            state_bias[-1] = 0
        return cls(
            cell=cell,
            input_weights=np.ascontiguousarray(factors * split("weight_ih_l0").transpose(0, 2, 1)),
            bias=factors[:, 0] * (split("bias_ih_l0") + state_bias),
            state_weights=np.ascontiguousarray(
                state_factors * split("weight_hh_l0").transpose(0, 2, 1)
            ),
            candidate_bias=candidate_bias,
        )

    @property
    def hidden_size(self) -> int:
        """Number of features of a state."""
        return self.state_weights.shape[2]

    def compute_gates(self, inputs: np.ndarray) -> np.ndarray:
        """Compute the part of the gates from N inputs, ``(N, D)`` to ``(G, N, H)``."""
        gates = np.matmul(inputs, self.input_weights)
        gates += self.bias[:, None]
        return gates

    def run(
        self, table: np.ndarray, steps: Steps, *, backward: bool
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Run over the texts of a batch.

        Args:
            table: ``(G, V, H)``, the gates of each row of :meth:`compute_gates`.
            steps: The tokens of the batch, as rows of ``table``.
            backward: Run over each text from its last token to its first.

        Yields:
            For each step its place in ``steps.token_ids``, and the states after it, ``(B, H)``. A
            text without a token at the step has the state after its last token, or 0 if the layer
            runs backward. The next step overwrites the states.
        """
        num_gates, _, hidden_size = table.shape
        num_texts = len(steps.lengths)
        advance = _ADVANCES[self.cell](self, num_texts)
        state = np.zeros((num_texts, hidden_size), np.float32)
        of_words = np.empty(num_gates * num_texts * hidden_size, np.float32)
        of_states = np.empty_like(of_words)
        places = steps.places()
        for place in reversed(places) if backward else places:
            num_now = place.stop - place.start  # texts with a token at the step
            shape = (num_gates, num_now, hidden_size)
            gates = of_words[: num_now * num_gates * hidden_size].reshape(shape)
            products = of_states[: gates.size].reshape(shape)
            now = rows_at(state, place)
            # All ids are within the table. With mode="raise" numpy would buffer ``gates``.
            np.take(table, steps.token_ids[place], axis=1, out=gates, mode="clip")
            np.matmul(now, self.state_weights, out=products)
            advance(gates, products, now)
            yield place, state


_Advance = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
"""Takes a step's gates by its words, the products of states and weights, and the states, which it
replaces. It may overwrite the others."""


def _make_tanh(layer: Layer, num_texts: int) -> _Advance:
    """Return the step ``h' = tanh(gate + W h)``."""

    def advance(gates: np.ndarray, products: np.ndarray, state: np.ndarray) -> None:
        np.add(gates[0], products[0], out=state)
        np.tanh(state, out=state)

    return advance


def _make_gru(layer: Layer, num_texts: int) -> _Advance:
    """Return the step ``h' = n + z (h - n)``, with ``n = tanh(gate + r (W h + bias))``."""
    # A matrix, as numpy is slow where it adds a short row to each row.
    bias = np.tile(layer.candidate_bias, (num_texts, 1))

    def advance(gates: np.ndarray, products: np.ndarray, state: np.ndarray) -> None:
        reset_and_update = products[:2]
        reset_and_update += gates[:2]
        np.tanh(reset_and_update, out=reset_and_update)  # r = (1 + reset) / 2, likewise z
        reset, update, hidden = products
        hidden += bias[: len(state)]  # half of W h + bias
        candidate = reset
        candidate *= hidden
        candidate += hidden
        candidate += gates[2]
        np.tanh(candidate, out=candidate)
        state -= candidate
        update += _ONE
        update *= _HALF
        update *= state
        np.add(candidate, update, out=state)

    return advance


def _make_lstm(layer: Layer, num_texts: int) -> _Advance:
    """Return the step ``c' = f c + i g``, ``h' = o tanh(c')``."""
    memory = np.zeros((num_texts, layer.hidden_size), np.float32)

    def advance(gates: np.ndarray, products: np.ndarray, state: np.ndarray) -> None:
        products += gates
        np.tanh(products, out=products)
        sigmoids = products[:3]
        sigmoids += _ONE
        sigmoids *= _HALF
        entered, forget, output, candidate = products
        now = memory[num_texts - len(state) :]
        now *= forget
        candidate *= entered
        now += candidate
        np.tanh(now, out=state)
        state *= output

    return advance


_ADVANCES: dict[str, Callable[[Layer, int], _Advance]] = {
    "rnn": _make_tanh,
    "gru": _make_gru,
    "lstm": _make_lstm,
}
"""Makes what advances the states of a layer by a step, for a batch of so many texts."""
_GATES = {"rnn": [0], "gru": [0, 1, 2], "lstm": [0, 1, 3, 2]}
"""Order of the gates here, as positions in PyTorch's order; the candidate comes last."""
_FACTORS = {"rnn": [1], "gru": [0.5, 0.5, 1], "lstm": [0.5, 0.5, 0.5, 1]}
"""Factor of the weights of each gate: 1/2 for a sigmoid."""


def count_gates(cell: str) -> int:
    """Count the gates of a kind of cell, such as ``gru``, with its candidate."""
    return len(_GATES[cell])


StateRuns = Sequence[Iterator[tuple[slice, np.ndarray]]]
"""The runs of the directions of a layer over a batch, see :meth:`Layer.run`."""


def gather_states(runs: StateRuns, steps: Steps, *, hidden_size: int) -> np.ndarray:
    """Gather the states after each token, ``(P, directions * H)``, the forward half first."""
    states = np.empty((len(steps.token_ids), len(runs) * hidden_size), np.float32)
    for number, run in enumerate(runs):
        half = states[:, number * hidden_size : (number + 1) * hidden_size]
        for place, state in run:
            half[place] = rows_at(state, place)
    return states


def pool_last(runs: StateRuns) -> np.ndarray:
    """Take the state after the last token; for the backward half, the state after the first."""
    halves = []
    for run in runs:
        for _, state in run:
            final = state
        halves.append(final)
    return np.concatenate(halves, axis=1)


def pool_mean_max(runs: StateRuns, lengths: np.ndarray, *, hidden_size: int) -> np.ndarray:
    """Put the mean and the maximum of the states side by side."""
    means = []
    largest = []
    for run in runs:
        total = np.zeros((len(lengths), hidden_size), np.float32)
        highest = np.full_like(total, -np.inf)
        for place, state in run:
            now = rows_at(state, place)
            total_now = rows_at(total, place)
            highest_now = rows_at(highest, place)
            np.add(total_now, now, out=total_now)
            np.maximum(highest_now, now, out=highest_now)
        means.append(total / lengths[:, None].astype(np.float32))
        largest.append(highest)
    return np.concatenate([*means, *largest], axis=1)


def pool_by_scores(states: np.ndarray, scores: np.ndarray, steps: Steps) -> np.ndarray:
    """Average the states ``(P, F)`` of each text, weighted by the softmax of their scores."""
    places = steps.places()
    num_texts = len(steps.lengths)
    highest = np.full(num_texts, -np.inf, np.float32)
    for place in places:
        now = rows_at(highest, place)
        np.maximum(now, scores[place], out=now)
    total = np.zeros((num_texts, states.shape[1]), np.float32)
    norm = np.zeros(num_texts, np.float32)
    for place in places:
        weights = np.exp(scores[place] - rows_at(highest, place))
        now = rows_at(total, place)
        now += weights[:, None] * states[place]
        norm_now = rows_at(norm, place)
        norm_now += weights
    return total / norm[:, None]
