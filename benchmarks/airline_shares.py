"""Do the intervals of ``sentiflow trends`` hold the true shares of six airlines?

``sentiflow run configs/airline.yaml output_uri=runs/half prepare.split.test_fraction=0.5``, then
``python benchmarks/airline_shares.py runs/half``: of the test rows, which the model has not seen,
the labels of a random part are shown and the others hidden, 200 times. Beside it: the share of
predicted labels, and the labels that are shown alone.
"""

import argparse

import numpy as np
import pandas as pd

import sentiflow
from sentiflow.metrics import shares

NUM_DRAWS = 200


def main() -> None:
    """Print a line for each number of labels that are shown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    given = parser.parse_args()
    run = sentiflow.load_run(given.run)
    rows = run.predictions.to_pandas(filters=[("split", "==", "test")])
    classes = run.scored.classes
    probabilities = rows[[f"probability_{name}" for name in classes]].to_numpy(float)
    label, (group, airlines) = rows["label"].to_numpy(int), pd.factorize(rows["airline"])
    of_class = label[:, None] == np.arange(len(classes))
    truth = np.array([of_class[group == one].mean(axis=0) for one in range(len(airlines))])

    def estimate(found: np.ndarray, shown: np.ndarray) -> shares.Shares:
        sums = shares.add_up(
            group=group,
            num_groups=len(airlines),
            prediction=rows["prediction"].to_numpy(int),
            probabilities=found,
            label=np.where(shown, label, -1),
            weight=np.ones(len(rows)),
        )
        return shares.estimate(sums)

    for size in (len(rows) // 2, 1000, 500, 300, 100):
        rng, hits, widths, alone, uncorrected = np.random.default_rng(0), [], [], [], 0.0
        for _ in range(NUM_DRAWS):
            shown = rng.permutation(len(rows)) < size
            one = estimate(probabilities, shown)
            labels = estimate(np.full_like(probabilities, 1 / len(classes)), shown)
            hits.append((one.low <= truth) & (truth <= one.high))
            widths.append((one.high - one.low).mean())
            alone.append((labels.high - labels.low).mean())
            error = np.sqrt(one.predicted * (1 - one.predicted) / one.rows[:, None])
            uncorrected = float((np.abs(one.predicted - truth) < 1.96 * error).mean())
        print(
            f"{size:,} of {len(rows):,} labels: coverage {np.mean(hits):.1%}, width "
            f"{np.mean(widths):.3f}, {np.mean(widths) / np.mean(alone):.2f} of labels alone; "
            f"the share of predicted labels {uncorrected:.1%}"
        )


if __name__ == "__main__":
    main()
