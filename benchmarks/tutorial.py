"""The accuracy of the tutorial's two networks against the numbers that the tutorial prints.

    python benchmarks/tutorial.py --every 1 data/training.1600000.processed.noemoticon.csv
    python benchmarks/tutorial.py --every 14 a.csv b.csv --plots docs

Trains ``configs/tutorial_ann.yaml`` and ``configs/tutorial_rnn.yaml`` (hidden sizes 50 and 100),
and prints both accuracies after each epoch that the tutorial shows (``tutorial.csv``). ``--every``
divides ``every_nth``: 14 for a fourteenth of the corpus keeps as many tweets as the tutorial keeps
of all. ``--plots`` draws the curves.
"""

from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import measuring
import pandas as pd
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

TUTORIAL = Path(__file__).with_name("tutorial.csv")
NETWORKS = {
    "summed vectors, 50-30-10-2": ("tutorial_ann", {}),
    "RNN(50)": ("tutorial_rnn", {}),
    "RNN(100)": ("tutorial_rnn", {"train.model.hidden_size": 100}),
}
BAG, *RNNS = NETWORKS
PLOTS = {"tutorial_ann.png": [BAG], "tutorial_rnn.png": RNNS}


def train(network: str, csv: list[Path], every: int, folder: Path) -> pd.DataFrame:
    """Train a network; returns the metrics of each epoch."""
    name, changes = NETWORKS[network]
    config = measuring.CONFIGS / f"{name}.yaml"
    every_nth = yaml.safe_load(config.read_text())["prepare"]["every_nth"]
    changes = changes | {"prepare.csv": csv, "prepare.every_nth": max(1, round(every_nth / every))}
    measuring.run_job("prepare", folder, changes, config=config)
    record = measuring.run_job("train", folder, changes, config=config)
    return pd.DataFrame(record["history"]).set_index("epoch")


def show(network: str, tutorial: pd.DataFrame, ours: pd.DataFrame) -> None:
    """Print the tutorial's accuracy and ours after each epoch, and their ratio."""
    table = tutorial.join(ours[tutorial.columns], lsuffix=", tutorial", rsuffix=", ours")
    for split in tutorial.columns:
        table[f"{split}, ratio"] = table[f"{split}, ours"] / table[f"{split}, tutorial"]
    print(f"\n{network}\n{table.sort_index(axis='columns').round(4).to_string()}", flush=True)


def draw(curves: dict[str, tuple[pd.DataFrame, pd.DataFrame]], path: Path) -> None:
    """Draw the curves of some networks beside each other, with the tutorial's points."""
    figure = Figure(figsize=(4.6 * len(curves) + 0.4, 3.6), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (network, (tutorial, ours)) in zip(panels, curves.items(), strict=True):
        for split, color in (("train", "tab:blue"), ("validation", "tab:orange")):
            column = f"{split}_accuracy"
            axes.plot(ours[column], color=color, linewidth=1.5, label=f"{split}, sentiflow")
            style = {"linestyle": "none", "marker": "o", "markersize": 4, "markerfacecolor": "none"}
            axes.plot(tutorial[column], color=color, label=f"{split}, tutorial", **style)
        axes.set(title=network, xlabel="epoch", ylim=(0.58, 0.72))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    panels[0].legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=110)


def measure(folder: Path, options: Namespace) -> Iterable[Any]:
    """Train the networks, and show their curves."""
    printed = pd.read_csv(TUTORIAL).set_index("epoch").groupby("network")
    files = options.inputs or [measuring.make_csv(folder / "sample.csv", 100_000)]
    csv, curves = [file.resolve() for file in files], {}
    for number, network in enumerate(NETWORKS):
        tutorial = printed.get_group(network).drop(columns="network")
        ours = train(network, csv, options.every, folder / str(number))
        show(network, tutorial, ours)
        curves[network] = tutorial, ours
    for name, networks in PLOTS.items() if options.plots else ():
        draw({network: curves[network] for network in networks}, options.plots / name)
    return ()


if __name__ == "__main__":
    measuring.main(__doc__, measure, every=1, plots=Path)
