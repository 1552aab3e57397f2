"""``sentiflow words`` on a text of word vectors, against torchtext and the tutorial's loop.

The file is the package's 400,000 vectors in GloVe's form, 171 MB. Each turn is a process of its
own, with imports: torchtext's is the tutorial's, which loads the vectors, measures the distance to
each word with torch and sorts all of them in Python.

    python benchmarks/words.py
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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
    """Write the package's vectors in GloVe's text form."""
    glove = word_vectors.load("package:glove.6B.50d")
    rows = zip(glove.words.to_pylist(), np.ascontiguousarray(glove.vectors).tolist(), strict=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{word} {' '.join(f'{x:.5g}' for x in row)}\n" for word, row in rows)


def seconds_of(command: list[str]) -> float:
    """Run a command to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Time each way to ask for the nearest words in turn, and print the medians."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "glove.6B.50d.txt")
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        write_text(text)
        ours = [sys.executable, "-m", "sentiflow", "words", "nearest", "cat", "--vectors"]
        torchtexts = [sys.executable, "-c", TUTORIAL, folder]
        ways = {  # the command, and what is forgotten before it
            "sentiflow, package": ([*ours, "package:glove.6B.50d"], ""),
            "sentiflow, text": ([*ours, str(text)], "cache/sentiflow/vectors/*"),
            "sentiflow, text again": ([*ours, str(text)], ""),
            "torchtext, text": (torchtexts, "*.pt"),
            "torchtext, text again": (torchtexts, ""),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(TURNS):
            for name, (command, forgotten) in ways.items():
                for path in Path(folder).glob(forgotten) if forgotten else ():
                    path.unlink()
                seconds[name].append(seconds_of(command))
    for name, values in seconds.items():
        print(f"{name:<22} {sorted(values)[TURNS // 2]:6.2f} s")


if __name__ == "__main__":
    main()
