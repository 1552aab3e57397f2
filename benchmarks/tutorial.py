"""The accuracy of the tutorial's two networks against the numbers that the tutorial prints.

    python benchmarks/tutorial.py --every 1 data/training.1600000.processed.noemoticon.csv
    python benchmarks/tutorial.py --every 14 a.csv b.csv --plots docs

The networks are ``configs/tutorial_ann.yaml`` and ``configs/tutorial_rnn.yaml`` with hidden sizes
50 and 100. Both accuracies are printed after each epoch that the tutorial shows (``tutorial.csv``).
``--every`` divides ``every_nth``: with ``--every 14``, a fourteenth of the corpus gives as many
tweets as the tutorial takes from the whole corpus. ``--plots`` draws the curves.
"""

from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import measuring
import pandas as pd
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

TUTORIAL = Path(__file__).with_name("tutorial.csv")


class Network(NamedTuple):
    """A network of the tutorial."""

    config: Path
    changes: dict[str, Any]
    """Settings that are changed in the config."""


class Curves(NamedTuple):
    """Accuracies of a network by epoch."""

    tutorial: pd.DataFrame
    ours: pd.DataFrame


ANN = measuring.CONFIGS / "tutorial_ann.yaml"
RNN = measuring.CONFIGS / "tutorial_rnn.yaml"
NETWORKS = {
    "summed vectors, 50-30-10-2": Network(ANN, {}),
    "RNN(50)": Network(RNN, {}),
    "RNN(100)": Network(RNN, {"train.model.hidden_size": 100}),
}
PLOTS = {
    "tutorial_ann.png": ["summed vectors, 50-30-10-2"],
    "tutorial_rnn.png": ["RNN(50)", "RNN(100)"],
}
"""Networks of each plot."""


def train(network: Network, csv: list[Path], every: int, folder: Path) -> pd.DataFrame:
    """Train a network; returns the metrics of each epoch."""
    settings = yaml.safe_load(network.config.read_text())
    every_nth = settings["prepare"]["every_nth"]
    changes = {
        **network.changes,
        "prepare.csv": csv,
        "prepare.every_nth": max(1, round(every_nth / every)),
    }
    measuring.run_job("prepare", folder, changes, config=network.config)
    record = measuring.run_job("train", folder, changes, config=network.config)
    return pd.DataFrame(record["history"]).set_index("epoch")


def show(title: str, curves: Curves) -> None:
    """Print the tutorial's accuracy and ours after each epoch, and their ratio."""
    columns = curves.tutorial.columns
    ours = curves.ours[columns]
    table = curves.tutorial.join(ours, lsuffix=", tutorial", rsuffix=", ours")
    for column in columns:
        table[f"{column}, ratio"] = table[f"{column}, ours"] / table[f"{column}, tutorial"]
    lines = table.sort_index(axis="columns").round(4).to_string()
    print(f"\n{title}\n{lines}", flush=True)


def draw(curves: dict[str, Curves], path: Path) -> None:
    """Draw the curves of some networks beside each other, with the tutorial's points."""
    figure = Figure(figsize=(4.6 * len(curves) + 0.4, 3.6), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, title in zip(panels, curves, strict=True):
        tutorial, ours = curves[title]
        for split, color in (("train", "tab:blue"), ("validation", "tab:orange")):
            column = f"{split}_accuracy"
            axes.plot(ours[column], color=color, linewidth=1.5, label=f"{split}, sentiflow")
            axes.plot(
                tutorial[column],
                color=color,
                linestyle="none",
                marker="o",
                markersize=4,
                markerfacecolor="none",
                label=f"{split}, tutorial",
            )
        axes.set(title=title, xlabel="epoch", ylim=(0.58, 0.72))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    panels[0].legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=110)


def measure(folder: Path, options: Namespace) -> Iterable[measuring.Table]:
    """Train the networks, and show their curves."""
    printed = pd.read_csv(TUTORIAL).set_index("epoch").groupby("network")
    files = options.inputs or [measuring.make_csv(folder / "sample.csv", 100_000)]
    csv = [file.resolve() for file in files]
    curves = {}
    for number, (title, network) in enumerate(NETWORKS.items()):
        tutorial = printed.get_group(title).drop(columns="network")
        ours = train(network, csv, options.every, folder / str(number))
        curves[title] = Curves(tutorial=tutorial, ours=ours)
        show(title, curves[title])
    if options.plots:
        for name, titles in PLOTS.items():
            draw({title: curves[title] for title in titles}, options.plots / name)
    return ()


if __name__ == "__main__":
    measuring.main(__doc__, measure, every=1, plots=Path)
