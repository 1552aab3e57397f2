"""How often a training breaks the promise of `train.unsure`, if every text occurs three times.

    python benchmarks/unsure_copies.py FILE TEXT LABEL [--draws 200]

Some texts are drawn, a kernel ridge classifier of words and characters answers them over five
folds, and the answers choose the threshold: once with one row a text, once with each of three
copies as a row. The model of all drawn texts then answers 4,000 others. Printed: the share of
trainings that answer, of those above the promise among all, and among those that answer. Labels
that are numbers are ratings: up to 4 negative, from 9 positive, the others are left out.
"""

import argparse

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from sentiflow.metrics.abstention import choose_threshold

NUM_COPIES = 3
NUM_FOLDS = 5
NUM_OTHERS = 4000
MAX_TEXTS = 12_000
RIDGE = 0.5


def read(path: str, text: str, label: str) -> tuple[list[str], np.ndarray]:
    """Read different texts and their labels."""
    table = pd.read_csv(path, usecols=[text, label]).dropna()
    if pd.api.types.is_numeric_dtype(table[label]):
        table = table[(table[label] <= 4) | (table[label] >= 9)]
        table[label] = table[label] >= 9
    table = table.drop_duplicates(text)
    table = table.sample(min(len(table), MAX_TEXTS), random_state=1)
    return table[text].tolist(), pd.factorize(table[label], sort=True)[0]


def vectorize(texts: list[str]) -> sparse.csr_array:
    """Weight words, pairs of words and 2 to 4 characters within a word by TF-IDF."""
    settings = {"n_features": 2**18, "alternate_sign": False, "norm": None}
    characters = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), **settings)
    words = HashingVectorizer(ngram_range=(1, 2), **settings)
    counts = sparse.hstack([characters.transform(texts), words.transform(texts)]).tocsr()
    counts.data = 1 + np.log(counts.data)
    return TfidfTransformer().fit_transform(counts)


def answer(kernel: np.ndarray, targets: np.ndarray, of_others: np.ndarray) -> np.ndarray:
    """Fit to some texts; return the scores of others, ``(N, C)``."""
    mean = targets.mean(axis=0)
    weights = np.linalg.solve(kernel + RIDGE * np.eye(len(kernel)), targets - mean)
    return of_others @ weights + mean


def to_confidence(scores: np.ndarray) -> np.ndarray:
    """Turn scores into the confidence of the predictions; its order is all that matters."""
    powers = np.exp(3 * scores)
    return (powers.max(axis=1) / powers.sum(axis=1)).astype(np.float32)


def draw(features: sparse.csr_array, label: np.ndarray, num_texts: int, rng) -> dict:
    """Train once; say by promise and counting whether texts are answered, and above the promise."""
    order = rng.permutation(len(label))
    drawn = order[:num_texts]
    others = order[num_texts : num_texts + NUM_OTHERS]
    targets = 2 * np.eye(label.max() + 1)[label[drawn]] - 1
    kernel = (features[drawn] @ features[drawn].T).toarray()
    of_others = (features[others] @ features[drawn].T).toarray()
    fold = rng.permutation(num_texts) % NUM_FOLDS
    scores = np.zeros_like(targets)
    for number in range(NUM_FOLDS):
        is_test = fold == number
        rest = np.flatnonzero(~is_test)
        scores[is_test] = answer(
            kernel[np.ix_(rest, rest)], targets[rest], kernel[is_test][:, rest]
        )
    right = scores.argmax(axis=1) == label[drawn]
    sure = to_confidence(scores)
    final = answer(kernel, targets, of_others)
    is_wrong = final.argmax(axis=1) != label[others]
    sure_of_others = to_confidence(final)
    found = {}
    for promise in (0.05, 0.1, 0.2):
        for copies in (1, NUM_COPIES):
            threshold = choose_threshold(
                right=np.tile(right, copies), confidence=np.tile(sure, copies), max_error=promise
            )
            answered = sure_of_others > threshold
            is_above = answered.any() and is_wrong[answered].mean() > promise
            found[promise, copies] = (answered.any(), is_above)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("text")
    parser.add_argument("label")
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    texts, label = read(arguments.file, arguments.text, arguments.label)
    features = vectorize(texts)
    for num_texts in (100, 300, 1000):
        rng = np.random.default_rng(7)
        draws = [draw(features, label, num_texts, rng) for _ in range(arguments.draws)]
        for promise, copies in draws[0]:
            figures = np.array([each[promise, copies] for each in draws], float)
            answers, above = figures.mean(axis=0)
            of_answering = above / answers if answers else 0.0
            counted = "text" if copies == 1 else "copy"
            line = f"{num_texts} | {promise} | one row a {counted} | {answers:.3f} | {above:.3f}"
            print(f"{line} | {of_answering:.2f}", flush=True)


if __name__ == "__main__":
    main()
