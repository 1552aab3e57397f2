"""Measure one model in the environment that serves it: its start, one text, many texts, memory.

    python benchmarks/serving.py sentiflow runs/fast texts.txt
    python benchmarks/serving.py fasttext model.bin texts.txt
    python benchmarks/serving.py model2vec FOLDER texts.txt    (weights.npy in it: (dim, classes))

Run each in its own environment. docs/serving.md has the figures. Times are processor time, because
other processes on the machine do not change it. Memory is the peak memory of the process.
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUM_SINGLE = 1000
"""Texts that are answered one by one."""
NUM_TRIES = 3
"""Times that all texts are answered; the fastest counts."""


def load(kind: str, model: str) -> Callable[[list[str]], Any]:
    """Load a model with its own library; returns a function that answers a list of texts."""
    if kind == "sentiflow":
        import sentiflow

        return sentiflow.load_model(model).predict
    if kind == "fasttext":
        import fasttext

        return fasttext.load_model(model).predict
    import numpy as np
    from model2vec import StaticModel

    vectors = StaticModel.from_pretrained(model)
    weights = np.load(Path(model, "weights.npy"))
    return lambda texts: (vectors.encode(texts) @ weights).argmax(axis=1)


def main() -> None:
    """Print a line."""
    kind, model, path = sys.argv[1:]
    predict = load(kind, model)
    predict(["I love this so much"])
    start = time.process_time()
    for number in range(NUM_SINGLE):
        predict([f"I love this so much {number}"])
    single = (time.process_time() - start) / NUM_SINGLE
    texts = Path(path).read_text().splitlines()
    seconds = []
    for _ in range(NUM_TRIES):
        began = time.process_time()
        predict(texts)
        seconds.append(time.process_time() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{kind}: start {start:.1f} s, one text {1000 * single:.3f} ms, "
        f"{len(texts) / min(seconds):,.0f} texts/s, {memory:,.0f} MB"
    )


if __name__ == "__main__":
    main()
