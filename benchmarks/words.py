"""``sentiflow words`` on a text of word vectors, against torchtext and the tutorial's loop.

    python benchmarks/words.py

The file has the package's 400,000 vectors in GloVe's format, 171 MB. Each round is a new process,
imports included. The tutorial's process loads the vectors with torchtext, measures the distance to
each word with torch, and sorts all distances in Python.
"""

import os
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from measuring import Figures, Way, main, python, seconds_of

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
    """Write the package's vectors in GloVe's text format."""
    glove = word_vectors.load("package:glove.6B.50d")
    rows = zip(glove.words.to_pylist(), np.ascontiguousarray(glove.vectors).tolist(), strict=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{word} {' '.join(f'{x:.5g}' for x in row)}\n" for word, row in rows)


def ask(folder: Path, kept: str, *command: object) -> Figures:
    """Delete what an earlier round has kept, and measure a command."""
    for path in folder.glob(kept) if kept else ():
        path.unlink()
    return {"seconds": seconds_of(lambda: python(*command))}


def list_tables(folder: Path, _: Namespace) -> Iterator[tuple[str, dict[str, Way]]]:
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
