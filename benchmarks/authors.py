"""Intervals by author on real reviews: whole authors are drawn, as a split by user draws them.

Two linear models of characters are trained on 20,000 and 10,000 reviews. Of the other reviews whole
authors are drawn, many times. Printed for each number of authors: the share of draws with an
interval of the accuracy, how often it contains the accuracy on all these reviews, how often the
exact interval of independent texts does, and how often the interval of the difference of both
models contains their true difference.

    python benchmarks/authors.py reviews.csv --text review --rating rating --author author
"""

import argparse

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier

from sentiflow.metrics import paired
from sentiflow.metrics.dependence import AuthorGroups
from sentiflow.metrics.intervals import right_interval, share_interval

NUM_TRAIN_ROWS = (20_000, 10_000)
SAME_SIZE = 5
"""Texts of each author in the draws of authors of equal sizes."""


def is_right(reviews: pd.DataFrame, text: str, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Train both models; return which rows they get right, ``(2, N)``, and the unseen rows."""
    vectorizer = HashingVectorizer(
        analyzer="char", ngram_range=(1, 3), n_features=2**18, alternate_sign=False
    )
    features = vectorizer.transform(reviews[text].astype(str))
    order = np.random.default_rng(0).permutation(len(reviews))
    right = []
    start = 0
    for num_rows in NUM_TRAIN_ROWS:
        chosen = order[start : start + num_rows]
        start += num_rows
        model = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=8, random_state=0, tol=None)
        model.fit(features[chosen], label[chosen])
        right.append(model.predict(features) == label)
    return np.stack(right), np.sort(order[start:])


def measure(
    right: np.ndarray, author: np.ndarray, num_authors: int, num_draws: int, *, same_size: bool
) -> list[float]:
    """Draw authors, and return the figures of a line."""
    first, second = right
    order = np.argsort(author, kind="stable")
    rows_of = np.split(order, np.flatnonzero(np.diff(author[order])) + 1)
    if same_size:
        rows_of = [rows[:SAME_SIZE] for rows in rows_of if len(rows) >= SAME_SIZE]
    everything = np.concatenate(rows_of)
    accuracy = first[everything].mean()
    gain = second[everything].mean() - accuracy
    rng = np.random.default_rng(1)
    given = held = exact = held_difference = 0
    for _ in range(num_draws):
        drawn = rng.choice(len(rows_of), num_authors, replace=False)
        rows = np.concatenate([rows_of[number] for number in drawn])
        groups = AuthorGroups(author[rows])
        low, high = share_interval(int(first[rows].sum()), len(rows))
        exact += low <= accuracy <= high
        difference, _ = paired.compare_accuracy(first[rows], second[rows], groups)
        held_difference += difference.low <= gain <= difference.high
        if not groups.no_interval:
            low, high = right_interval(first[rows], groups)
            given += 1
            held += low <= accuracy <= high
    return [given / num_draws, held / max(given, 1), exact / num_draws, held_difference / num_draws]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--text", default="review")
    parser.add_argument("--rating", default="rating")
    parser.add_argument("--author", default="author")
    parser.add_argument("--draws", type=int, default=2000)
    arguments = parser.parse_args()
    columns = [arguments.text, arguments.rating, arguments.author]
    reviews = pd.read_csv(arguments.corpus, usecols=columns).dropna()
    rating = reviews[arguments.rating].to_numpy()
    label = np.digitize(rating, [4.5, 7.5])
    right, unseen = is_right(reviews, arguments.text, label)
    author = pd.factorize(reviews[arguments.author].to_numpy()[unseen])[0]
    print("authors | sizes | with an interval | contains | exact interval | difference")
    for same_size in (False, True):
        for num_authors in (100, 300, 1000):
            figures = measure(
                right[:, unseen], author, num_authors, arguments.draws, same_size=same_size
            )
            sizes = "equal" if same_size else "real"
            print(num_authors, sizes, *(f"{figure:.3f}" for figure in figures), sep=" | ")


if __name__ == "__main__":
    main()
