"""``sentiflow words`` on a text of word vectors, against torchtext and the tutorial's loop.

The file has the package's 400,000 vectors in GloVe's format, 171 MB. Each turn is a new process,
imports included. The tutorial's process loads the vectors with torchtext, measures the distance to
each word with torch, and sorts all distances in Python.

    python benchmarks/words.py
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from measuring import seconds_of, show_rates, take_turns

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
TURNS = 3


def write_text(path: Path) -> None:
    """Write the package's vectors in GloVe's text format."""
    glove = word_vectors.load("package:glove.6B.50d")
    rows = zip(glove.words.to_pylist(), np.ascontiguousarray(glove.vectors).tolist(), strict=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{word} {' '.join(f'{x:.5g}' for x in row)}\n" for word, row in rows)


def ask(command: list[str], folder: Path, forgotten: str) -> float:
    """Delete what an earlier turn has kept, and measure the seconds of a command."""
    for path in folder.glob(forgotten) if forgotten else ():
        path.unlink()
    return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))


def main() -> None:
    """Time each way to find the nearest words, in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        text = folder / "glove.6B.50d.txt"
        write_text(text)
        ours = [sys.executable, "-m", "sentiflow", "words", "nearest", "cat", "--vectors"]
        torchtexts = [sys.executable, "-c", TUTORIAL, str(folder)]
        ways = {  # the command, and what is deleted before it
            "torchtext, text": (torchtexts, "*.pt"),
            "torchtext, text again": (torchtexts, ""),
            "sentiflow, package": ([*ours, "package:glove.6B.50d"], ""),
            "sentiflow, text": ([*ours, str(text)], "cache/sentiflow/vectors/*"),
            "sentiflow, text again": ([*ours, str(text)], ""),
        }
        contestants = {n: partial(ask, command, folder, old) for n, (command, old) in ways.items()}
        seconds = take_turns(contestants, TURNS)
    show_rates("the words nearest to cat", seconds, unit="s")


if __name__ == "__main__":
    main()
