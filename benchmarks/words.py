"""``sentiflow words`` on a text of word vectors, against torchtext and the tutorial's loop.

    python benchmarks/words.py

The file has the 400,000 vectors of the package in GloVe's format, 171 MB. Each round is a new
process whose imports are timed. The tutorial's process loads the vectors with torchtext, measures
the distance to each word with torch, and sorts all distances in Python.
"""

import os
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from measuring import Figures, Table, main, python, seconds_of

from sentiflow.words import word_vectors

TUTORIAL = """
import sys
import torch, torchtext.vocab

glove = torchtext.vocab.GloVe(name="6B", dim=50, cache=sys.argv[1])
point = glove.vectors[glove.stoi["cat"]]
distances = torch.norm(glove.vectors - point, dim=1)
for index, distance in sorted(enumerate(distances.numpy()), key=lambda x: x[1])[1:11]:
    print(glove.itos[index], distance)
"""


def write_text(path: Path) -> None:
    """Write the vectors of the package in GloVe's text format."""
    glove = word_vectors.load("package:glove.6B.50d")
    words = glove.words.to_pylist()
    vectors = np.ascontiguousarray(glove.vectors).tolist()
    with path.open("w", encoding="utf-8") as file:
        for word, vector in zip(words, vectors, strict=True):
            numbers = " ".join(f"{number:.5g}" for number in vector)
            file.write(f"{word} {numbers}\n")


def ask(folder: Path, cached: str, *command: object) -> Figures:
    """Delete the files that an earlier round has cached, and measure a command."""
    if cached:
        for path in folder.glob(cached):
            path.unlink()
    return {"seconds": seconds_of(lambda: python(*command))}


def list_tables(folder: Path, _: Namespace) -> Iterator[Table]:
    """List the ways to find the nearest words."""
    os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
    text = folder / "glove.6B.50d.txt"
    write_text(text)
    ours = ("-m", "sentiflow", "words", "nearest", "cat", "--vectors")
    tutorial = ("-c", TUTORIAL, folder)
    runs = {
        "torchtext, text": partial(ask, folder, "*.pt", *tutorial),
        "torchtext, text again": partial(ask, folder, "", *tutorial),
        "sentiflow, package": partial(ask, folder, "", *ours, "package:glove.6B.50d"),
        "sentiflow, text": partial(ask, folder, "cache/sentiflow/vectors/*", *ours, text),
        "sentiflow, text again": partial(ask, folder, "", *ours, text),
    }
    yield "the words nearest to cat", runs


if __name__ == "__main__":
    main(__doc__, list_tables)
