"""The accuracy of the tutorial's two networks against the numbers that the tutorial prints.

    python benchmarks/tutorial.py --every 1 data/training.1600000.processed.noemoticon.csv
    python benchmarks/tutorial.py --every 14 a.csv b.csv --plots docs

Trains ``configs/tutorial_ann.yaml`` and ``configs/tutorial_rnn.yaml`` (hidden sizes 50 and 100),
and prints both accuracies after each epoch that the tutorial shows. ``--every`` divides
``every_nth``: 14 for a fourteenth of the corpus keeps as many tweets as the tutorial keeps of all.
``--plots`` draws the curves.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from measuring import make_csv, read_manifest, sentiflow

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Curve:
    """A network, and the accuracies that the tutorial prints for it."""

    title: str
    config: str
    settings: tuple[str, ...]
    epochs: tuple[int, ...]
    train: tuple[float, ...]
    validation: tuple[float, ...]


CURVES = {
    "ann": Curve(
        "summed vectors, 50-30-10-2",
        "tutorial_ann.yaml",
        (),
        (5, 10, 65, 90),
        (0.620245, 0.661668, 0.694733, 0.698236),
        (0.625000, 0.671276, 0.677544, 0.673857),
    ),
    "rnn": Curve(
        "RNN(50)",
        "tutorial_rnn.yaml",
        (),
        tuple(range(1, 21)),
        (0.635724, 0.665065, 0.662837, 0.669488, 0.670825, 0.669616, 0.668120, 0.673371, 0.672607,
         0.679258, 0.678558, 0.680849, 0.674739, 0.675662, 0.682504, 0.681040, 0.684891, 0.684254,
         0.686482, 0.690428),
        (0.633880, 0.657164, 0.660189, 0.662756, 0.662297, 0.665139, 0.661014, 0.666239, 0.662572,
         0.670547, 0.670181, 0.671556, 0.671097, 0.665964, 0.672564, 0.667156, 0.676047, 0.678889,
         0.670089, 0.677331),
    ),
    "rnn100": Curve(
        "RNN(100)",
        "tutorial_rnn.yaml",
        ("train.model.hidden_size=100",),
        tuple(range(1, 21)),
        (0.664365, 0.668788, 0.669297, 0.673084, 0.670316, 0.667834, 0.669425, 0.673148, 0.677126,
         0.681422, 0.669106, 0.666146, 0.685973, 0.685686, 0.687405, 0.688868, 0.689791, 0.673912,
         0.697110, 0.698765),
        (0.660831, 0.660281, 0.660281, 0.662481, 0.663031, 0.654047, 0.662664, 0.661747, 0.668256,
         0.671647, 0.657530, 0.660189, 0.675956, 0.672472, 0.676506, 0.673022, 0.672197, 0.666789,
         0.680814, 0.682006),
    ),
}  # fmt: skip


def train(curve: Curve, csv: list[str], every: int, folder: Path) -> list[dict]:
    """Train a network; returns the metrics of each epoch."""
    every_nth = yaml.safe_load((CONFIGS / curve.config).read_text())["prepare"]["every_nth"]
    changes = (
        f"output_uri={folder}",
        f"tracking.uri=sqlite:///{folder.parent}/mlflow.db",
        "tracking.register_model=false",
        f"prepare.csv={json.dumps(csv)}",
        f"prepare.every_nth={max(1, round(every_nth / every))}",
        *curve.settings,
    )
    for verb in ("prepare", "train"):
        sentiflow(verb, CONFIGS / curve.config, *changes)
    return read_manifest(folder / "trained")["history"]


def show(curve: Curve, history: list[dict]) -> None:
    """Print the tutorial's accuracy and ours after each epoch."""
    print(f"\n| {curve.title} | train, tutorial | ours | validation, tutorial | ours |")
    print("|---|---|---|---|---|")
    rows = zip(curve.epochs, curve.train, curve.validation, strict=True)
    for number, its_train, its_validation in rows:
        ours = history[number - 1]
        cells = its_train, ours["train_accuracy"], its_validation, ours["validation_accuracy"]
        print(f"| epoch {number} | {' | '.join(f'{cell:.4f}' for cell in cells)} |", flush=True)


def draw(curves: list[Curve], histories: list[list[dict]], path: Path) -> None:
    """Draw the curves of some networks beside each other."""
    figure = Figure(figsize=(4.6 * len(curves) + 0.4, 3.6), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, curve, history in zip(panels, curves, histories, strict=True):
        epochs = [epoch["epoch"] for epoch in history]
        for name, its, color in (
            ("train", curve.train, "tab:blue"),
            ("validation", curve.validation, "tab:orange"),
        ):
            ours = [epoch[f"{name}_accuracy"] for epoch in history]
            axes.plot(epochs, ours, color=color, linewidth=1.5, label=f"{name}, sentiflow")
            style = {"linestyle": "none", "marker": "o", "markersize": 4, "markerfacecolor": "none"}
            axes.plot(curve.epochs, its, color=color, label=f"{name}, tutorial", **style)
        axes.set(title=curve.title, xlabel="epoch", ylim=(0.58, 0.72))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    panels[0].legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train the networks, and show their curves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("csv", nargs="*", help="by default a synthetic corpus")
    parser.add_argument("--every", type=int, default=1, help="divides the configs' every_nth")
    parser.add_argument("--plots", type=Path, help="draw the curves into this directory")
    arguments = parser.parse_args()
    if arguments.plots:
        arguments.plots.mkdir(parents=True, exist_ok=True)
    histories = {}
    with tempfile.TemporaryDirectory() as name:
        files = arguments.csv or [make_csv(Path(name, "sample.csv"), 100_000)]
        csv = [str(Path(file).resolve()) for file in files]
        for key, curve in CURVES.items():
            histories[key] = train(curve, csv, arguments.every, Path(name, key))
            show(curve, histories[key])
    if arguments.plots:
        draw([CURVES["ann"]], [histories["ann"]], arguments.plots / "tutorial_ann.png")
        rnns = ["rnn", "rnn100"]
        path = arguments.plots / "tutorial_rnn.png"
        draw([CURVES[key] for key in rnns], [histories[key] for key in rnns], path)


if __name__ == "__main__":
    main()
