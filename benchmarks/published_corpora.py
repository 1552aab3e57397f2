"""Files of published corpora -> draws: rows to train on, and other rows to answer.

FOLDER may have

- one CSV for each corpus with the columns `text` and `label`, in the folder `published` or, if
  there is none, in FOLDER itself;
- `long_reviews.csv.gz` with the columns `text` and `label`: the corpus `long`;
- `korean_reviews.csv.gz` with the columns `review` and `rating`: the corpora `korean-2000` and
  `korean-30000`, named by their number of train rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

KOREAN = {"korean-2000": 2000, "korean-30000": 30_000}
"""Number of train rows of each corpus of Korean reviews."""
NUM_TEST = 20_000
"""Number of test rows of a draw of Korean reviews."""
ALL_FOLDS = 5000
"""Number of rows from which only the first fold of a corpus is answered."""
RATINGS = dict.fromkeys((1, 2, 3, 4), "negative") | {9: "positive", 10: "positive"}
"""The labels of ratings; other ratings have none."""


@dataclass(frozen=True)
class Draw:
    """Rows to train on and rows to answer, with the columns ``text`` and ``label``."""

    name: str
    """Its name among the draws of the corpus."""
    train: pd.DataFrame
    test: pd.DataFrame
    unlabelled: Sequence[str] = ()
    """Texts that are neither in ``train`` nor in ``test``."""


@dataclass(frozen=True)
class Corpus:
    """A corpus in one or more draws. No row is answered twice."""

    name: str
    draws: list[Draw]

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in order."""
        return sorted(self.draws[0].train["label"].unique())

    @property
    def truth(self) -> np.ndarray:
        """The position of the class of each row to answer, draw after draw."""
        labels = pd.concat([draw.test["label"] for draw in self.draws])
        return pd.Index(self.classes).get_indexer(labels)


@dataclass(frozen=True)
class Choice:
    """Which corpora to read, and how to draw from them."""

    names: Sequence[str] = ()
    """The corpora. None: all that the folder has."""
    num_folds: int = 5
    """Folds of a corpus that has no draws of its own."""
    num_runs: int | None = None
    """How many draws of each corpus to answer. None: all draws, but only one fold of a corpus with
    at least ``ALL_FOLDS`` rows."""
    num_draws: int = 2
    """Draws of Korean reviews."""
    num_unlabelled: int = 0
    """Unlabelled texts of a draw of Korean reviews."""


def read(folder: Path, choice: Choice) -> list[Corpus]:
    """Read the chosen corpora, and draw from them.

    Raises:
        SystemExit: A corpus is missing.
    """
    files = find_files(folder)
    missing = [name for name in choice.names if name not in files]
    if missing:
        raise SystemExit(f"{folder} has no {', '.join(missing)}; it has {', '.join(files)}")
    return [draw(name, files[name], choice) for name in choice.names or files]


def find_files(folder: Path) -> dict[str, Path]:
    """Find the file of each corpus."""
    published = folder / "published"
    if not published.is_dir():
        published = folder
    files = {path.stem: path for path in sorted(published.glob("*.csv"))}
    files["long"] = folder / "long_reviews.csv.gz"
    for name in KOREAN:
        files[name] = folder / "korean_reviews.csv.gz"
    return {name: path for name, path in files.items() if path.exists()}


def draw(name: str, path: Path, choice: Choice) -> Corpus:
    """Read a corpus, and draw from it."""
    rows = pd.read_csv(path, keep_default_na=False)
    if name in KOREAN:
        draws = draw_reviews(
            rows,
            num_train=KOREAN[name],
            num_test=NUM_TEST,
            num_draws=choice.num_draws,
            num_unlabelled=choice.num_unlabelled,
        )
        return Corpus(name, draws[: choice.num_runs])
    num_runs = choice.num_runs
    if num_runs is None and len(rows) >= ALL_FOLDS:
        num_runs = 1
    return Corpus(name, draw_folds(rows, choice.num_folds)[:num_runs])


def draw_folds(rows: pd.DataFrame, num_folds: int) -> list[Draw]:
    """Divide rows into folds at random; each draw answers a fold and trains on the others."""
    folds = np.arange(len(rows)) % num_folds
    fold = np.random.default_rng(0).permutation(folds)
    rows = rows[["text", "label"]]
    draws = []
    for number in range(num_folds):
        is_answered = fold == number
        draws.append(Draw(f"{number}-of-{num_folds}", rows[~is_answered], rows[is_answered]))
    return draws


def draw_reviews(
    reviews: pd.DataFrame, *, num_train: int, num_test: int, num_draws: int, num_unlabelled: int
) -> list[Draw]:
    """Draw as many negative as positive reviews. No text is in two places.

    Different draws have no labelled row in common, so that their rows are independent. Their
    unlabelled texts have any rating.

    Raises:
        SystemExit: There are too few reviews of a class.
    """
    texts = reviews["review"]
    rows = pd.DataFrame({"text": texts, "label": reviews["rating"].map(RATINGS)})
    is_used = (texts.str.strip() != "") & ~texts.duplicated()
    shuffled = rows[is_used].sample(frac=1, random_state=0, ignore_index=True)
    size = (num_train + num_test) // 2
    draws = []
    for number in range(num_draws):
        train = []
        test = []
        for name in ("negative", "positive"):
            of_class = shuffled[shuffled["label"] == name]
            drawn = of_class[number * size : (number + 1) * size]
            if len(drawn) < size:
                raise SystemExit(f"{num_draws} draws need more than {len(of_class)} {name} reviews")
            train.append(drawn[: num_train // 2])
            test.append(drawn[num_train // 2 :])
        labelled = Draw(
            name=str(number),
            train=pd.concat(train).sample(frac=1, random_state=number),
            test=pd.concat(test).sample(frac=1, random_state=number),
        )
        others = shuffled.drop(labelled.train.index).drop(labelled.test.index)
        unlabelled = others["text"].sample(num_unlabelled, random_state=number)
        draws.append(replace(labelled, unlabelled=unlabelled.tolist()))
    return draws


def join(corpora: Sequence[Corpus]) -> Corpus:
    """Join corpora that have the same labels and equally many draws into one corpus."""
    draws = []
    for parts in zip(*[corpus.draws for corpus in corpora], strict=True):
        draws.append(
            Draw(
                name=parts[0].name,
                train=pd.concat([part.train for part in parts], ignore_index=True),
                test=pd.concat([part.test for part in parts], ignore_index=True),
            )
        )
    return Corpus("+".join(corpus.name for corpus in corpora), draws)
