"""Do the words that ``explain`` finds decide, and how long does it take?

    python benchmarks/why.py FILE:TEXT:LABEL [FILE:TEXT:LABEL ...] [--corpora 100] [--rows 10000]

TEXT and LABEL are names of columns, or numbers in a CSV without a header. All files have the same
classes. Models are trained in this process: a linear model and a GRU, half of the logits each (the
linear model with the weakest regularization).

- planted: corpora of 2,000 rows, with a made-up word put into one text in ten of one class. *first
  three*: the word is among the first three deciding words of its class, over 200 other rows; *first
  in a text*: the share of the other texts with the word in which it has the largest part.
- deletion: the words of 1,000 texts leave one after the other, in several orders; the mean
  probability of the label that was predicted for the whole text, over all steps. Lower is better.
- time: seconds for one text and for 1,000 texts, by the network in numpy, as in a loaded package.
"""

import random
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import measuring
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from measuring import Table

from sentiflow.config.train_sections import RnnSettings
from sentiflow.evaluation import deciding_words
from sentiflow.models import batching, explanations, networks, vocabulary, word_parts
from sentiflow.models.ngrams import Ngrams
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_settings import PackageSettings
from sentiflow.models.tokenizer import TOKENIZERS, tokenize
from sentiflow.training import linear_solver

NUM_ROWS = 2000
"""Rows of a corpus with a planted word; one in ten is not trained on."""
PLANTED_FRACTION = 0.1
"""Share of the texts of one class that have the planted word."""
NUM_EPOCHS = 4
NUM_DELETED = 1000
"""Texts whose words leave."""


def train(texts: Sequence[str], codes: np.ndarray, classes: tuple[str, ...]) -> ModelPackage:
    """Train a linear model and a GRU on texts."""
    torch.manual_seed(0)
    tokens = tokenize(pa.array(texts), name="tweet")
    counts = np.bincount(tokens.ids, minlength=len(tokens.words))
    words = vocabulary.fit(
        pa.table({"word": tokens.words, "count": counts}), min_count=2, max_size=20_000
    )
    settings = PackageSettings(
        model=RnnSettings(hidden_size=32, bidirectional=True, pooling="mean_max"),
        vocabulary_size=len(words),
        embedding_dim=50,
        tokenizer="tweet",
        tokenizer_version=TOKENIZERS["tweet"].version,
        max_length=64,
        classes=classes,
        priors=tuple((np.bincount(codes, minlength=len(classes)) / len(codes)).tolist()),
        linear_weight=0.5,
    )
    network = networks.build(
        settings.model,
        vocabulary_size=len(words),
        embedding_dim=50,
        num_classes=len(classes),
    )
    package = ModelPackage(network, words, settings)
    rows = batching.EncodedRows.from_lists(package.read(pa.array(texts)).encoded.token_ids)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    known = np.flatnonzero(rows.lengths)
    network.train()
    for epoch in range(NUM_EPOCHS):
        order = np.random.default_rng(epoch).permutation(known)
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            chosen = chosen[np.argsort(rows.lengths[chosen])]
            batch = batching.collate(rows, chosen)
            logits = network(batch.token_ids, batch.lengths)
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(codes[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    targets = np.eye(len(classes))[codes]
    *_, (_, weakest) = linear_solver.fit(Ngrams.of(tokens), targets)
    linear = weakest.scale(0.5, np.zeros(len(classes)))
    return ModelPackage(network.eval(), words, settings, linear)


def plant(corpus: pd.DataFrame, num_corpora: int) -> dict[str, float]:
    """Count in how many corpora a planted word is found."""
    classes = tuple(sorted(corpus["label"].unique()))
    in_class = 0
    in_texts = []
    for seed in range(num_corpora):
        rng = random.Random(seed)
        rows = corpus.sample(NUM_ROWS, random_state=seed)
        label = rng.choice(classes)
        word = rng.choice(["viafeedbot", "zorblax", "#1a2b", label + "ish", "sent-from-my-qx"])
        texts = []
        for text, own_label in zip(rows["text"], rows["label"], strict=True):
            words = text.split()
            if own_label == label and rng.random() < PLANTED_FRACTION:
                words.insert(rng.randrange(len(words) + 1), word)
            texts.append(" ".join(words))
        codes = np.array([classes.index(each) for each in rows["label"]])
        num_train = NUM_ROWS - NUM_ROWS // 10
        package = train(texts[:num_train], codes[:num_train], classes)
        other = pa.array(texts[num_train:])
        predicted = package.score(other).prediction
        labels = pa.array(classes).take(pa.array(predicted))
        table = deciding_words.measure_classes(package, other, labels).table.to_pandas()
        first = table[table["label"] == label]["word"].head(3).tolist()
        pieces = set(tokenize(pa.array([word]), name="tweet").words.to_pylist())
        in_class += bool(pieces & set(first))
        with_word = [text for text in other.to_pylist() if word in text.split()]
        for why in explanations.explain(package, pa.array(with_word, pa.string()), label=label):
            in_texts.append(max(why.words, key=lambda each: each.part).word in pieces)
    return {
        "corpora": num_corpora,
        "first three": in_class,
        "texts": len(in_texts),
        "first in a text": float(np.mean(in_texts)),
    }


def order_by_gradient(package: ModelPackage, text: pa.Array, codes: np.ndarray) -> np.ndarray:
    """Return the part of each word by the linear model, and by gradient times input."""
    pieces, of_linear = word_parts.measure_linear(package, text, codes)
    read = package.read(text)
    rows = batching.EncodedRows.from_lists(read.encoded.token_ids)
    places = package.vocabulary.find_read(read.tokens, max_length=package.settings.max_length)
    found = of_linear.copy()
    network = package.network
    for row in np.flatnonzero(rows.lengths).tolist():
        batch = batching.collate(rows, np.array([row]))
        vectors: list[torch.Tensor] = []

        def keep(_: object, __: object, output: torch.Tensor, kept: list = vectors) -> None:
            output.retain_grad()
            kept.append(output)

        handle = network.embedding.register_forward_hook(keep)
        logits = network(batch.token_ids, batch.lengths)[0]
        handle.remove()
        (logits[codes[row]] - logits.mean()).backward()
        product = (vectors[0] * vectors[0].grad).sum(dim=-1).flatten().detach().numpy()
        tokens_of_row = slice(read.tokens.offsets[row], read.tokens.offsets[row + 1])
        own = places[(places >= tokens_of_row.start) & (places < tokens_of_row.stop)]
        np.add.at(found, pieces.of_tokens[own], 0.5 * product[: len(own)])
    return found


def delete(package: ModelPackage, text: pa.Array, choose: Callable[..., np.ndarray]) -> float:
    """Measure the mean probability of the label while words leave, the highest parts first."""
    scores = package.score(text)
    codes = np.asarray(scores.prediction, np.int64)
    parts = choose(package, text, codes)
    pieces, _ = word_parts.measure_linear(package, text, codes)
    shortened = []
    row_of = []
    for row in range(len(text)):
        place = slice(pieces.offsets[row], pieces.offsets[row + 1])
        words = pieces.words[place].to_pylist()
        order = np.argsort(-parts[place], kind="stable").tolist()
        for num_left_out in range(len(words) + 1):
            left = sorted(order[num_left_out:])
            shortened.append(" ".join(words[number] for number in left))
            row_of.append(row)
    rows = np.array(row_of)
    probabilities = package.score(pa.array(shortened)).probabilities
    of_label = probabilities[np.arange(len(rows)), codes[rows]]
    means = np.bincount(rows, of_label) / np.bincount(rows)
    return float(means.mean())


def list_tables(folder: Path, given: Namespace) -> Iterator[Table]:
    """Read the files, and measure."""
    frames = []
    for source in given.inputs:
        path, text, label = str(source).rsplit(":", 2)
        header = None if text.isdigit() else "infer"
        names = [int(name) if name.isdigit() else name for name in (text, label)]
        table = pd.read_csv(path, header=header, encoding_errors="replace", dtype=str)[names]
        frames.append(table.set_axis(["text", "label"], axis=1).dropna())
    corpus = pd.concat(frames).drop_duplicates("text")
    yield "planted", {"corpora of 2,000 rows": partial(plant, corpus, given.corpora)}

    classes = tuple(sorted(corpus["label"].unique()))
    rows = corpus.sample(given.rows + NUM_DELETED, random_state=0)
    codes = np.array([classes.index(label) for label in rows["label"]])
    texts = rows["text"].tolist()
    package = cache(lambda: train(texts[: given.rows], codes[: given.rows], classes))
    in_numpy = cache(lambda: package().to("cpu"))
    text = pa.array(texts[given.rows :])
    rng = np.random.default_rng(0)
    orders: dict[str, Callable[..., np.ndarray]] = {
        "explain": lambda *asked: word_parts.measure(*asked).parts,
        "linear part": lambda *asked: word_parts.measure_linear(*asked)[1],
        "network part": lambda *asked: word_parts.measure(*asked).network,
        "linear part and gradient": order_by_gradient,
        "random": lambda *asked: rng.random(len(word_parts.measure_linear(*asked)[1])),
    }
    yield (
        "deletion",
        {
            name: lambda choose=choose: {"mean probability": delete(package(), text, choose)}
            for name, choose in orders.items()
        },
    )

    def explain(number: int) -> measuring.Figures:
        loaded = in_numpy()  # its training is not timed
        return {"s": measuring.seconds_of(lambda: explanations.explain(loaded, text[:number]))}

    yield "time", {f"{number:,} texts": partial(explain, number) for number in (1, len(text))}


if __name__ == "__main__":
    measuring.main(__doc__, list_tables, corpora=100, rows=10_000)
