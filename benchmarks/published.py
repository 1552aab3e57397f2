"""The settings of `init` against words and characters in scikit-learn, on published corpora.

    python benchmarks/published.py FOLDER [--corpora umsab_french,korean-2000] [--runs 5]
        [--before CHECKOUT] [--also characters prepare.unit=characters]
        [--taught] [--unlabelled tweets.csv] [--unlabelled-rows 15000]
        [--joint] [--answers DIRECTORY]

`published_corpora.py` describes FOLDER. Each draw of a corpus has train rows and test rows: draws
of Korean reviews have 20,000 test rows, other corpora are divided into folds at random. All models
are trained on the train rows and answer the test rows of each of the first `--runs` draws; by
default of all draws, but only of one fold of a corpus with at least 5,000 rows.

`sentiflow init` writes the settings of our model, and `--set` replaces some. The rival is the
baseline of the report: words 1-2 and characters 2-5, TF-IDF, logistic regression, C by
cross-validation.

`--before` adds the model of another checkout of the project, trained by its own commands, with the
settings that its own `init` writes. `--also` adds a model with other settings: a name, then the
settings; it can be used several times.

`--taught` adds a model of the same settings with a teacher that knows the language
(`train.distill: {teachers: ["encoder:use-multilingual"], hard_weight: 0.5}`, four epochs of five
times the texts). The teacher also answers the texts of `--unlabelled` and, for Korean reviews,
`--unlabelled-rows` other reviews. `--joint` adds one model of all these corpora, which must have
the same labels and equally many draws.

The first table has the macro F1 and the accuracy of all answered rows, and the 95% intervals of
the paired differences in points. The second table has the share of the network in the logits, how
many networks were trained of those that the model and its folds have, what the network reads, the
CPU seconds of `prepare` and `train`, and the time that `train` took and had told when it began. Its
shares and times are means over the draws.

Answers, costs and logs are kept in `--answers`, so that a killed command with the same directory
continues: name another one for other settings. Without it they are kept in a new temporary
directory, which the command names when it begins.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import published_corpora
import published_models
from published_corpora import Choice, Corpus
from published_models import Answer, Costs, Ours

from sentiflow.config import yaml_text
from sentiflow.metrics import paired
from sentiflow.metrics.macro_f1 import macro_f1
from sentiflow.metrics.predicted import count_confusion

TAUGHT = {
    "train.distill.teachers": ["encoder:use-multilingual"],
    "train.distill.hard_weight": 0.5,
    "train.num_epochs": 4,
}
"""Settings of ``--taught``."""
RIVALS = ("linear", "before")
"""What our model is compared with; other models are compared with our model."""
COSTS = (
    "corpus",
    "model",
    "network share",
    "networks",
    "unit",
    "prepare, CPU s",
    "train, CPU s",
    "train, s",
    "told",
)
"""Columns of the second table."""


class Answers(NamedTuple):
    """The answers of a model to all draws of a corpus, one after the other."""

    prediction: list[np.ndarray]
    costs: list[Costs]


def answer_draws(system: str, answer: Answer, corpus: Corpus, kept: Path) -> Answers:
    """Answer the draws of a corpus that are not answered yet.

    Args:
        system: Name of the kind of model.
        answer: Trains such a model, and answers.
        corpus: The corpus.
        kept: Directory of the answers.
    """
    prediction = []
    costs = []
    for draw in corpus.draws:
        name = f"{system}-{corpus.name}-{draw.name}"
        answered = published_models.read_kept(kept / name)
        if answered is None:
            began = time.monotonic()
            answered = answer(draw, corpus.classes)
            published_models.keep(kept / name, answered)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        prediction.append(answered.prediction)
        costs.append(answered.costs)
    return Answers(prediction, costs)


class Difference(NamedTuple):
    """The difference of two models, in points."""

    value: float
    width: float
    """Half the width of its 95% interval."""

    @classmethod
    def of(cls, interval: paired.Difference) -> "Difference":
        """Turn a difference of two shares into points."""
        return cls(value=100 * interval.value, width=50 * (interval.high - interval.low))


def compare_f1(truth: np.ndarray, rival: np.ndarray, answers: np.ndarray) -> Difference:
    """Measure the difference of a model's macro F1 to its rival's."""
    interval = paired.f1_macro_difference(
        label=truth,
        first=rival,
        second=answers,
        num_classes=int(truth.max()) + 1,
        num_resamples=1000,
    )
    assert interval is not None, "each class occurs"
    return Difference.of(interval)


def compare_accuracy(truth: np.ndarray, rival: np.ndarray, answers: np.ndarray) -> Difference:
    """Measure the difference of a model's accuracy to its rival's."""
    interval, _ = paired.compare_accuracy(rival == truth, answers == truth)
    return Difference.of(interval)


def pair_up(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pair each model with ours: the model, and the rival that is subtracted."""
    pairs = []
    for name in names:
        if name in RIVALS:
            pairs.append(("sentiflow", name))
        elif name != "sentiflow":
            pairs.append((name, "sentiflow"))
    return pairs


@dataclass(frozen=True)
class Result:
    """The figures of all models on a corpus."""

    scores: list[float]
    """Macro F1 of each model."""
    accuracies: list[float]
    """Accuracy of each model."""
    differences: list[Difference]
    """Of macro F1 for each pair of models, then of accuracy for each pair."""

    @classmethod
    def of(cls, truth: np.ndarray, answers: dict[str, np.ndarray]) -> "Result":
        """Compare the answers of all models to the rows of a corpus."""
        scores = []
        accuracies = []
        for each in answers.values():
            matrix = count_confusion(truth, each, num_labels=int(truth.max()) + 1)
            scores.append(macro_f1(matrix) or 0.0)
            accuracies.append(float((each == truth).mean()))
        differences = []
        for compare in (compare_f1, compare_accuracy):
            for name, rival in pair_up(list(answers)):
                differences.append(compare(truth, answers[rival], answers[name]))
        return cls(scores, accuracies, differences)

    @classmethod
    def mean(cls, results: list["Result"]) -> "Result":
        """Average over corpora, whose rows are independent."""
        differences = []
        for number in range(len(results[0].differences)):
            column = [result.differences[number] for result in results]
            value = np.mean([each.value for each in column])
            sum_of_squares = np.square([each.width for each in column]).sum()
            width = np.sqrt(sum_of_squares) / len(results)
            differences.append(Difference(value=float(value), width=float(width)))
        return cls(
            scores=np.mean([result.scores for result in results], axis=0).tolist(),
            accuracies=np.mean([result.accuracies for result in results], axis=0).tolist(),
            differences=differences,
        )

    @property
    def cells(self) -> list[str]:
        """The cells of the table, see :func:`list_columns`."""
        cells = [f"{score:.4f}" for score in self.scores]
        cells += [f"{accuracy:.4f}" for accuracy in self.accuracies]
        cells += [f"{each.value:+.1f} ± {each.width:.1f}" for each in self.differences]
        return cells


def list_columns(names: list[str]) -> list[str]:
    """List the columns of the first table, given the names of the models."""
    columns = ["corpus", "rows"]
    columns += [f"{name}, macro F1" for name in names]
    columns += [f"{name}, accuracy" for name in names]
    for figure in ("macro F1", "accuracy"):
        columns += [f"{name} - {rival}, {figure}" for name, rival in pair_up(names)]
    return columns


def print_titles(columns: Sequence[str]) -> None:
    """Print the head of a table."""
    print_line(columns)
    print("|---" * len(columns), "|", sep="")


def print_line(cells: Sequence[str]) -> None:
    """Print a line of a table."""
    print("|", " | ".join(cells), "|", flush=True)


def write_costs(costs: list[Costs]) -> list[str]:
    """Write the cells of a model in the table of costs, given its costs in each draw."""
    networks = [f"{each.num_networks} of {each.max_networks}" for each in costs]
    cells = [
        f"{np.mean([each.network_share for each in costs]):.0%}",
        list_different(networks),
        list_different([each.unit for each in costs]),
        f"{np.mean([each.prepare_cpu_s for each in costs]):.1f}",
        f"{np.mean([each.train_cpu_s for each in costs]):.1f}",
        f"{np.mean([each.train_seconds for each in costs]):.0f}",
        list_different([each.told or "below 1 min" for each in costs]),
    ]
    if costs[0].max_networks == 0:
        return ["", "", "", "", cells[4], "", ""]
    return cells


def list_different(texts: Sequence[str]) -> str:
    """List texts in their order, equal ones once."""
    return ", ".join(dict.fromkeys(texts))


def read_settings(lines: list[str]) -> dict[str, Any]:
    """Read settings as a command line has them: ``section.key=value``."""
    settings = {}
    for line in lines:
        key, _, value = line.partition("=")
        settings[key] = yaml_text.parse(value)
    return settings


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpora", default="", help="all that the folder has")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=2, help="draws of Korean reviews (2)")
    parser.add_argument("--runs", type=int, help="draws to answer")
    parser.add_argument("--set", nargs="*", default=[], help="settings to replace")
    parser.add_argument("--before", type=Path, help="another checkout of the project")
    parser.add_argument("--also", nargs="+", action="append", default=[], help="name, settings")
    parser.add_argument("--taught", action="store_true")
    parser.add_argument(
        "--unlabelled", nargs="*", type=Path, default=[], help="files with the column text"
    )
    parser.add_argument("--unlabelled-rows", type=int, default=0)
    parser.add_argument("--joint", action="store_true")
    parser.add_argument("--answers", type=Path, help="directory of the answers, to continue")
    given = parser.parse_args()
    if given.answers is None:
        given.answers = Path(tempfile.mkdtemp(prefix="published-"))
        print(f"to continue this command, add --answers {given.answers}", file=sys.stderr)
    given.answers.mkdir(parents=True, exist_ok=True)
    return given


def list_systems(given: argparse.Namespace) -> dict[str, Answer]:
    """List the models that are trained for each corpus."""
    changes = read_settings(given.set)
    systems = {"sentiflow": Ours(changes).answer, "linear": published_models.scikit_learn}
    if given.before:
        systems["before"] = Ours(checkout=given.before.resolve()).answer
    for name, *lines in given.also:
        systems[name] = Ours({**changes, **read_settings(lines)}).answer
    if given.taught:
        systems["taught"] = Ours({**changes, **TAUGHT}, unlabelled=given.unlabelled).answer
    return systems


def answer_jointly(
    answer: Answer, corpora: Sequence[Corpus], kept: Path
) -> tuple[list[list[np.ndarray]], list[Costs]]:
    """Answer all corpora by one model; returns the answers to the draws of each, and the costs."""
    joint = answer_draws("joint", answer, published_corpora.join(corpora), kept)
    of_corpora: list[list[np.ndarray]] = [[] for _ in corpora]
    for number, prediction in enumerate(joint.prediction):
        start = 0
        for corpus, found in zip(corpora, of_corpora, strict=True):
            end = start + len(corpus.draws[number].test)
            found.append(prediction[start:end])
            start = end
    return of_corpora, joint.costs


def main() -> None:
    """Print a line for each corpus, then the costs."""
    given = read_options()
    choice = Choice(
        names=[name for name in given.corpora.split(",") if name],
        num_folds=given.folds,
        num_runs=given.runs,
        num_draws=given.draws,
        num_unlabelled=given.unlabelled_rows,
    )
    corpora = published_corpora.read(given.folder, choice)
    systems = list_systems(given)
    names = list(systems)
    costs: list[tuple[str, str, list[Costs]]] = []
    if given.joint:
        names.append("joint")
        answer = Ours(read_settings(given.set)).answer
        of_corpora, of_joint = answer_jointly(answer, corpora, given.answers)
        costs.append(("all", "joint", of_joint))
    print_titles(list_columns(names))
    results = []
    for number, corpus in enumerate(corpora):
        answers = {}
        for name, answer in systems.items():
            answered = answer_draws(name, answer, corpus, given.answers)
            answers[name] = np.concatenate(answered.prediction)
            costs.append((corpus.name, name, answered.costs))
        if given.joint:
            answers["joint"] = np.concatenate(of_corpora[number])
        result = Result.of(corpus.truth, answers)
        results.append(result)
        print_line([corpus.name, f"{len(corpus.truth):,}", *result.cells])
    print_line(["mean", "", *Result.mean(results).cells])
    print()
    print_titles(COSTS)
    for corpus_name, name, of_draws in costs:
        print_line([corpus_name, name, *write_costs(of_draws)])


if __name__ == "__main__":
    main()
