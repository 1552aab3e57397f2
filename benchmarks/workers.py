"""One and two training workers by batch size, beside what ``train.num_workers: auto`` takes.

    python benchmarks/workers.py --prepared runs/x/prepared [--batches 128,512] [--repeats 3]

Without ``--prepared``, 100,000 tweets of ``sentiflow sample`` are prepared first. The network is
that of ``configs/quickstart.yaml``. Rates are tweets per second after the first epoch. Both workers
are on this machine, as two nodes of one core would be; their starts are not counted, so the choice
is that for a long training.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from measuring import show_rates, take_turns
from train import measure, prepare_sample, run_ours, settings_of

from sentiflow.cluster.resources import Resources
from sentiflow.data import manifest
from sentiflow.training import classes, worker_count

MODEL = {"cell": "gru", "hidden_size": 64, "pooling": "mean_max", "dropout": 0.3}
LONG = {"num_epochs": 10_000}
NODES = Resources(num_cpus=2, num_gpus=0, num_nodes=2, min_node_cpus=1, is_one_machine=False)


def main() -> None:
    """Compare both numbers of workers for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", type=Path)
    parser.add_argument("--batches", default="128,512,2048,8192")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        prepared = (options.prepared or prepare_sample(Path(name))).resolve()
        record = manifest.read(str(prepared))
        for size in map(int, options.batches.split(",")):
            settings = settings_of({"model": MODEL}, size, prepared_uri=str(prepared))
            long = settings.model_copy(update=LONG)
            chosen, _ = worker_count.choose(long, record, classes.choose(record, long), NODES)
            runs = {
                f"{number} worker(s)": partial(measure, run_ours, prepared, settings, number)
                for number in (1, 2)
            }
            title = f"batches of {size:,}; auto: {chosen}"
            show_rates(title, take_turns(runs, options.repeats), unit="tweets/s")


if __name__ == "__main__":
    main()
