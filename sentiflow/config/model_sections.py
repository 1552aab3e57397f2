"""Kind of network -> its settings: name, default, bounds and meaning of each."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from sentiflow.config.types import Settings


class NetworkSettings(Settings):
    """Settings of every kind of network."""

    kind: str
    vectors: Literal["tuned", "frozen"] = "tuned"
    """Whether the word vectors are trained (``tuned``) or stay as they are (``frozen``)."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Dropout of the word vectors and between layers; a feature is dropped in all tokens of a text
    at once."""
    output_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout before the output layer. Default: same as ``dropout``."""


class RnnSettings(NetworkSettings):
    """The recurrent network."""

    kind: Literal["rnn"] = "rnn"
    """``rnn``: recurrent network."""
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """``rnn``: recurrent cell: Elman RNN, GRU or LSTM."""
    hidden_size: int = Field(default=128, ge=1)
    """``rnn``: size of the hidden state of each direction."""
    bidirectional: bool = True
    """``rnn``: whether a second recurrent layer reads each text backwards."""
    pooling: Literal["last", "mean_max", "attention"] = "attention"
    """``rnn``: how the hidden states of a text are combined: the last valid one, mean and maximum,
    or attention."""

    @property
    def brief(self) -> str:
        """Name the network in a word, such as ``gru(128)``."""
        return f"{self.cell}({self.hidden_size})"

    @property
    def summary(self) -> str:
        """Describe the network in a few words."""
        direction = "bidirectional" if self.bidirectional else "unidirectional"
        return f"{self.brief}, {direction}, {self.pooling}"


def _as_sizes(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of whole numbers, such as [30, 10]")
    return value


class BagSettings(NetworkSettings):
    """The bag-of-embeddings network, which ignores the order of words."""

    kind: Literal["bag_of_embeddings"] = "bag_of_embeddings"
    """``bag_of_embeddings``: fully connected layers over the sum of the word vectors."""
    hidden_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_as_sizes), Field(max_length=16)
    ] = (30, 10)
    """``bag_of_embeddings``: sizes of the hidden layers. ``[]``: no hidden layer, which is logistic
    regression."""
    pooling: Literal["sum", "mean"] = "sum"
    """``bag_of_embeddings``: how the word vectors of a text are combined. Default: ``sum``."""

    @property
    def brief(self) -> str:
        """Name the network in a word, such as ``bag(30-10)``."""
        return f"bag({'-'.join(map(str, self.hidden_sizes)) or 'linear'})"

    @property
    def summary(self) -> str:
        """Describe the network in a few words."""
        return f"{self.brief}, {self.pooling} of the word vectors"


KINDS: dict[str, type[Settings]] = {"rnn": RnnSettings, "bag_of_embeddings": BagSettings}
"""Of networks, by ``train.model.kind``."""


def _kind_of(model: Any) -> Any:
    return model.get("kind", "rnn") if isinstance(model, dict) else getattr(model, "kind", None)


ModelSettings = Annotated[
    Annotated[RnnSettings, Tag("rnn")] | Annotated[BagSettings, Tag("bag_of_embeddings")],
    Discriminator(
        _kind_of,
        custom_error_type="kind_unknown",
        custom_error_message=f"must be a section whose kind is {' or '.join(KINDS)}",
    ),
]
"""A ``train.model`` section: without ``kind`` it is a recurrent network."""
