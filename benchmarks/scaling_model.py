"""Measured rates and public figures -> how long jobs take and cost on clusters of a given size.

    python benchmarks/scaling_model.py [--write]

Prints the tables of ``docs/scaling.md``; ``--write`` puts them there, and draws its plot. What was
measured is in ``scaling.json``, see :mod:`scaling`. A pass over parts takes as long as the slowest
of what it needs: the driver, which starts its tasks one after the other; the cores, on which a task
computes or waits for its next object; the rate of requests to one prefix of the object store; and
the network. The longest of these times is the pass's, and names its limit.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentiflow.data.csv_ranges import CHUNK_BYTES
from sentiflow.preparation import partitions

RESULTS = Path(__file__).with_name("scaling.json")
PAGE = Path(__file__).parents[1] / "docs/scaling.md"
GB = 1e9


@dataclass(frozen=True)
class Machine:
    """A machine that can be rented, with public figures."""

    name: str
    cores: float
    """Virtual ones, two to a core of Intel; those that rates were measured on are alike."""
    memory: int
    """In GiB."""
    gbits: float
    """A second, of its network, as long as one likes."""
    dollars: float
    """An hour, on demand, Linux, in us-east-1."""


C7I_8XL = Machine("c7i.8xlarge", 32, 64, 12.5, 1.428)
M7I_4XL = Machine("m7i.4xlarge", 16, 64, 6.25, 0.8064)
R7I_8XL = Machine("r7i.8xlarge", 32, 256, 12.5, 2.1168)
MACHINES = (M7I_4XL, C7I_8XL, R7I_8XL)
SPOT = 0.4
"""Price of a spare machine to that on demand; it changes by the hour."""


@dataclass(frozen=True)
class Store:
    """Where the tables are."""

    seconds: float
    """Until the first byte of an answer comes."""
    gets: float
    puts: float
    """Requests a second to one prefix; a bucket that is busy for long is parted further."""
    dollars_per_get: float
    dollars_per_put: float


S3 = Store(0.05, 5_500, 3_500, 0.4e-6, 5e-6)
DISK = Store(0, math.inf, math.inf, 0, 0)


@dataclass(frozen=True)
class Place:
    """A cluster, and what it reads from and writes to."""

    machine: Machine
    nodes: int
    store: Store = S3
    speed: float = 1.0
    """Of a core, to those measured; a simulated node of half a core has 0.5."""

    @property
    def cores(self) -> float:
        """Tasks that run at the same time."""
        return self.machine.cores * self.nodes

    @property
    def bytes_per_second(self) -> float:
        """Of the network of all nodes."""
        return self.machine.gbits * self.nodes * GB / 8


@dataclass(frozen=True)
class Pass:
    """What all tasks of a pass need together."""

    name: str
    tasks: int
    cpu: float
    """Seconds."""
    gets: float = 0.0
    puts: float = 0.0
    bytes: float = 0.0
    engine: str = "map_parts"
    at_once: int = 1
    """Requests that a task waits for together."""


@dataclass(frozen=True)
class Time:
    """How long something takes, by each of what it needs."""

    needs: dict[str, float]
    dollars: float = 0.0
    """For requests."""
    start: float = 0.0
    """Seconds before and after, in which one process works alone."""
    parts: list["Time"] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return self.start + max(self.needs.values(), default=0) + sum(t.seconds for t in self.parts)

    @property
    def limit(self) -> str:
        """What most of the time is spent on."""
        totals: dict[str, float] = {"start": self.start}
        for time in (self, *self.parts):
            if time.needs:
                name = max(time.needs, key=time.needs.__getitem__)
                totals[name] = totals.get(name, 0) + time.needs[name]
            totals["start"] += time.start if time is not self else 0
        return max(totals, key=totals.__getitem__)

    @property
    def all_dollars(self) -> float:
        """For the requests of all parts."""
        return self.dollars + sum(time.all_dollars for time in self.parts)


class Model:
    """The times of jobs, from what was measured."""

    def __init__(self, measured: dict[str, Any]) -> None:
        """Take what :mod:`scaling` has measured."""
        self.measured = measured
        self.rates, self.sizes = measured["rates"]["rates"], measured["rates"]["bytes_per_row"]
        self.requests = measured["requests"]

    def run(self, one: Pass, place: Place) -> Time:
        """Say how long a pass takes."""
        driver = self.measured["engines"][one.engine]["driver_seconds_per_part"]
        busy = min(place.cores, one.tasks)
        if one.engine == "map_tasks":
            busy = min(busy, MAX_WAITING)
        rounds = math.ceil(one.tasks / busy) * busy / one.tasks
        waits = (one.gets / one.at_once + one.puts) * place.store.seconds
        shares = {
            "driver": driver * one.tasks / min(1, place.speed)
            if place.speed >= 1
            else driver * one.tasks,
            "requests": max(one.gets / place.store.gets, one.puts / place.store.puts),
            "network": one.bytes / place.bytes_per_second,
        }
        cpu, waiting = (s / busy * rounds for s in (one.cpu / place.speed, waits))
        name = "cores" if cpu >= waiting else "waiting for objects"
        dollars = one.gets * place.store.dollars_per_get + one.puts * place.store.dollars_per_put
        return Time(shares | {name: cpu + waiting}, dollars)

    def start(self, stage: str, place: Place) -> float:
        """Say how long the first workers take to import what they need."""
        return float(self.measured["imports"][stage] / place.speed)

    def _asked(self, stage: str, kind: str) -> float:
        """Say how many requests a part adds to a stage."""
        found = self.requests["per_part"][stage]
        names = {"puts": ("PUT", "POST", "LIST"), "gets": ("GET", "HEAD")}[kind]
        asked = sum(found.get(name, 0) for name in names)
        if kind == "gets" and stage == "prepare":
            asked += self.requests["gets_of_words"] - found["shuffle"]
        return asked

    def prepare(self, rows: float, rows_per_file: int, place: Place) -> Time:
        """Say how long a preparation takes."""
        rates, sizes = self.rates, self.sizes
        size, parts = rows * sizes["csv"], math.ceil(rows / rows_per_file)
        number, pieces = partitions.count(parts), parts * partitions.count(parts)
        read = self.piece_seconds(number)
        written = rows * (sizes["tweets"] + sizes["encoded"])
        gets, puts = (self._asked("prepare", kind) for kind in ("gets", "puts"))
        per_piece = self.requests["gets_per_piece"]
        passes = [
            self._cut(rows, parts, "map_parts"),
            Pass(
                "ingest",
                parts,
                self._cpu("ingest", rows, parts),
                gets * parts * 0.7,
                puts * parts * 0.6,
                2 * size + written,
            ),
            Pass(
                "duplicates",
                number,
                rows / rates["find_duplicates"]["rows_per_second"] + pieces * read,
                pieces * per_piece,
                number,
                rows * 26,
                at_once=PIECES_AT_ONCE,
            ),
            Pass(
                "words",
                number,
                rows / rates["count_words"]["rows_per_second"] + pieces * read,
                pieces * per_piece,
                number,
                rows * 2,
                at_once=PIECES_AT_ONCE,
            ),
            Pass(
                "encode",
                parts,
                self._cpu("encode", rows, parts),
                gets * parts * 0.3,
                puts * parts * 0.4,
                written,
            ),
        ]
        is_brief = size <= 1 << 28
        start = self.rates["prepare"]["driver_seconds"] + self.start("prepare", place)
        if is_brief:
            start += passes.pop(0).cpu
        start += self.record_seconds(parts, place)
        return Time({}, start=start, parts=[self.run(one, place) for one in passes])

    def piece_seconds(self, num_partitions: int) -> float:
        """Say what it takes to read one partition from one part: its file's footer grows."""
        found = sorted((int(n), v["read_seconds"]) for n, v in self.measured["shuffle"].items())
        (low, fast), (high, slow) = found[0], found[-1]
        return fast + (slow - fast) * max(0, num_partitions - low) / (high - low)

    def record_seconds(self, parts: int, place: Place) -> float:
        """Say how long the driver is busy with the manifest, and with taking receipts away."""
        known = self.measured["metadata"]
        deletes = parts * 5 / 1_000 * place.store.seconds  # a thousand at a time
        return known["write_manifest_seconds"] * parts / known["parts"] + 2 * deletes

    def _cpu(self, name: str, rows: float, parts: int) -> float:
        rate = self.rates[name]
        return rows / rate["rows_per_second"] + parts * rate["seconds_per_part"]

    def score(
        self, rows: float, rows_per_file: int, place: Place, *, from_csv: bool = False
    ) -> Time:
        """Say how long a scoring takes, of prepared tweets or of a CSV, which is cut first."""
        parts = math.ceil(rows / rows_per_file)
        gets, puts = (self._asked("score", kind) for kind in ("gets", "puts"))
        size = rows * (self.sizes["csv" if from_csv else "tweets"] + self.sizes["predictions"])
        cpu = self._cpu("score", rows, parts)
        one = Pass("score", parts, cpu, gets * parts, puts * parts, size, "map_tasks")
        start = self.start("score", place) + self.record_seconds(parts, place)
        passes = [self._cut(rows, parts, "map_tasks")] if from_csv else []
        return Time({}, start=start, parts=[self.run(item, place) for item in (*passes, one)])

    def _cut(self, rows: float, parts: int, engine: str) -> Pass:
        """Describe the pass that finds where the records of a CSV begin."""
        size, rate = rows * self.sizes["csv"], self.rates["cut"]["rows_per_second"]
        stretches = math.ceil(size / CHUNK_BYTES)
        puts = 3 * stretches  # a receipt, as an upload in several pieces
        return Pass("cut", stretches, rows / rate, parts + stretches, puts, size, engine)

    def train(self, rows: float, epochs: int, batch: int, workers: int, place: Place) -> Time:
        """Say how long a training takes, of rows of the train split."""
        rate, steps = self.rates["train"], epochs * math.ceil(rows / batch)
        cores = (epochs * rows / rate["rows_per_second"] / workers) / place.speed
        cores += steps * rate["seconds_per_step"] / place.speed
        wire = self.message_seconds(batch, workers, place) * steps
        dealing = epochs * rows / self.measured["dealing"]["rows_per_second"] / place.speed
        start = RAY_TRAIN_SECONDS + self.start("train", place) + dealing
        return Time({"cores and messages": cores + wire}, start=start)

    def message_seconds(self, batch: int, workers: int, place: Place) -> float:
        """Say how long the sums of one step are under way: a ring of workers, twice around."""
        if workers == 1:
            return 0.0
        found = self.measured["messages"]
        known = found[
            min((name for name in found if name.isdigit()), key=lambda n: abs(int(n) - batch))
        ]
        hops = 2 * (workers - 1)
        latency = known["messages_per_step"] * hops * HOP_SECONDS
        if place.store is DISK:
            return latency
        sent = known["bytes_per_step"] * hops / workers
        return latency + sent / (place.machine.gbits * GB / 8)

    def evaluate(self, rows: float, files: int, place: Place) -> Time:
        """Say how long an evaluation takes, which one process does."""
        found = self.measured["growth"]
        waiting = 3 * files * place.store.seconds
        return Time(
            {"one process": rows / found["rows_per_second"] + waiting},
            start=found["seconds_of_start"],
        )

    def evaluate_memory(self, rows: float) -> float:
        """Say how many bytes an evaluation needs."""
        found = self.measured["growth"]
        (few, more), (low, high) = (
            found[name][:: len(found[name]) - 1] for name in ("rows", "memory")
        )
        return low + (high - low) / (more - few) * max(0.0, rows - few)


PIECES_AT_ONCE = 16
"""Of a partition, see ``sentiflow/partitions.py``."""
MAX_WAITING = 1_000
"""Tasks of a scoring that Ray is told of at a time."""
RAY_TRAIN_SECONDS = 15.0
"""What Ray Train takes to start and end a group of workers, on any cluster."""
HOP_SECONDS = 1e-4
"""What a message takes from one machine to the next in the same zone."""


@dataclass(frozen=True)
class Plan:
    """A corpus, and the cluster that is recommended for it."""

    name: str
    rows: float
    place: Place
    rows_per_file: int
    workers: int
    prepared: float
    """Rows that are prepared; if not all, the others are scored from the CSV."""
    trained: float
    """Rows that are trained on in each epoch."""
    evaluated: float
    """Rows of the splits that are put aside."""


PLANS = (
    Plan("1.6 million", 1.6e6, Place(M7I_4XL, 1), 100_000, 8, 1.6e6, 1.28e6, 320_000),
    Plan("160 million", 160e6, Place(M7I_4XL, 8), 200_000, 8, 160e6, 16e6, 3.2e6),
    Plan("16 billion", 16e9, Place(M7I_4XL, 64), 400_000, 8, 80e6, 64e6, 3.2e6),
)
"""Each trains and evaluates on one machine of the same kind."""


def load() -> Model:
    """Take what was measured last."""
    return Model(json.loads(RESULTS.read_text()))


def clock(seconds: float) -> str:
    """Write a time so that it is read at a glance."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def dollars(amount: float) -> str:
    """Write a price."""
    return f"${amount:,.2f}" if amount >= 0.01 else "under $0.01"


def machines_of(place: Place) -> str:
    """Name the machines of a cluster."""
    return f"{place.nodes} x {place.machine.name}"


def stages_of(model: Model, plan: Plan) -> Iterator[tuple[str, Time, Place]]:
    """Give the times of the stages of a plan, and where each of them runs."""
    alone, files = Place(plan.place.machine, 1), math.ceil(plan.prepared / plan.rows_per_file)
    yield "prepare", model.prepare(plan.prepared, plan.rows_per_file, plan.place), plan.place
    yield "train", model.train(plan.trained, EPOCHS, LARGE_BATCH, plan.workers, alone), alone
    score = model.score(
        plan.rows, plan.rows_per_file, plan.place, from_csv=plan.prepared < plan.rows
    )
    yield "score", score, plan.place
    yield "evaluate", model.evaluate(plan.evaluated, files, alone), alone


EPOCHS = 3


def show_plans(model: Model) -> str:
    """Make the table of recommended clusters, with the time and the price of each stage."""
    lines = [
        "| tweets | stage | machines | time | limit | on demand | spare, about |",
        "|---|---|---|---|---|---|---|",
    ]
    for plan in PLANS:
        total = [0.0, 0.0]
        for stage, time, place in stages_of(model, plan):
            rent = time.seconds / 3600 * place.nodes * place.machine.dollars
            prices = [rent + time.all_dollars, rent * SPOT + time.all_dollars]
            total = [sum(pair) for pair in zip(total, prices, strict=True)]
            cells = [plan.name, stage, machines_of(place), clock(time.seconds), time.limit]
            lines.append(f"| {' | '.join([*cells, *map(dollars, prices)])} |")
        lines.append(f"| {plan.name} | **all** | | | | ${total[0]:,.2f} | ${total[1]:,.2f} |")
    whole = model.prepare(plan.rows, plan.rows_per_file, plan.place)
    rent = whole.seconds / 3600 * plan.place.nodes * plan.place.machine.dollars
    cells = [plan.name, "prepare all, if need be", machines_of(plan.place)]
    cells += [clock(whole.seconds), whole.limit, f"${rent + whole.all_dollars:,.2f}"]
    lines.append(f"| {' | '.join(cells)} | ${rent * SPOT + whole.all_dollars:,.2f} |")
    return "\n".join(lines)


def predict_nodes(model: Model, cores: str) -> dict[str, dict[int, tuple[float, float]]]:
    """Give, by stage and number of simulated nodes, the seconds predicted and measured."""
    known = model.measured["nodes"][cores]
    rows, small = known["rows"], known["rows_trained"]
    trained, batch = small * TRAIN_SHARE, LARGE_BATCH
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for name, seconds in known["seconds"].items():
        nodes = int(name)
        place = Place(Machine("", 1, 0, math.inf, 0), nodes, DISK, known["cores_per_node"])
        prepare = model.prepare(rows, known["rows_per_file"], place)
        score = model.score(rows, known["rows_per_file"], place)
        train = model.train(trained, 1, batch, nodes, place)
        times = {"prepare": prepare.seconds, "score": score.seconds, "train": train.seconds}
        times["epoch"] = max(train.needs.values())
        for stage, predicted in times.items():
            found.setdefault(stage, {})[nodes] = (predicted, seconds[stage]["best"])
    return found


TRAIN_SHARE, LARGE_BATCH = 0.8, 2_048
TICKS = (2, 5, 10, 20, 50, 100, 200)


def show_nodes(model: Model) -> str:
    """Make the table of the simulated nodes."""
    lines = [
        "| | cores of a node | nodes | measured | model | error | faster than one | by the model |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = {"epoch": "one epoch of training", "train": "train, with its start"}
    for stage in ("prepare", "score", "train", "epoch"):
        for cores in sorted(model.measured["nodes"]):
            by_nodes = predict_nodes(model, cores)[stage]
            first = by_nodes[min(by_nodes)]
            for nodes, (predicted, measured) in sorted(by_nodes.items()):
                cells = [names.get(stage, stage), cores, str(nodes)]
                cells += [f"{measured:.1f} s", f"{predicted:.1f} s"]
                cells.append(f"{100 * (predicted / measured - 1):+.0f} %")
                cells += [f"{first[1] / measured:.2f}", f"{first[0] / predicted:.2f}"]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def show_rates(model: Model) -> str:
    """Make the table of what was measured for a row, a part and a stage."""
    rates, rows = model.rates, []
    for name in ("cut", "ingest", "find_duplicates", "count_words", "encode", "score", "train"):
        rate = rates[name]
        part = rate.get("seconds_per_part")
        cells = [f"{rate['rows_per_second']:,.0f}", "" if part is None else f"{1e3 * part:.0f} ms"]
        rows.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    growth = model.measured["growth"]
    rows.append(f"| evaluate | {growth['rows_per_second']:,.0f} | |")
    return "\n".join(
        ["| pass | rows a second on one core | for each part |", "|---|---|---|", *rows]
    )


TABLES = {"plans": show_plans, "nodes": show_nodes, "rates": show_rates}


def put(page: str, model: Model) -> str:
    """Put the tables between their marks in the page."""
    for name, show in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, found, rest = page.partition(begin)
        _, found_too, after = rest.partition(end)
        assert found, f"the page has no {begin}"
        assert found_too, f"the page has no {end}"
        page = before + begin + show(model) + end + after
    return page


def draw(model: Model, path: Path) -> None:
    """Draw the measured points on the model's lines."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from sentiflow.evaluation.charts import BLUE, ORANGE, PLOT_STYLE, to_png

    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(9.6, 3.6), layout="constrained")
        titles = {"prepare": "prepare", "score": "score", "epoch": "one epoch of training"}
        for axes, (stage, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
            seen = []
            for cores, color in zip(sorted(model.measured["nodes"]), (BLUE, ORANGE), strict=False):
                by_nodes = sorted(predict_nodes(model, cores)[stage].items())
                nodes, seconds = zip(*by_nodes, strict=True)
                predicted, measured = zip(*seconds, strict=True)
                axes.plot(nodes, predicted, color=color, label=f"model, {cores} cores a node")
                axes.plot(nodes, measured, "o", color=color, label="measured")
                seen += [predicted[-1], *measured]
            axes.set(title=title, xlabel="nodes", xscale="log", yscale="log")
            axes.set_xticks([1, 2, 4], ["1", "2", "4"], minor=False)
            axes.minorticks_off()
            ticks = [t for t in TICKS if min(seen) / 1.3 <= t <= max(seen) * 1.3]
            axes.set_yticks(ticks, [f"{tick} s" for tick in ticks])
        axes.legend(fontsize="small")
        path.write_bytes(to_png(figure))


def main() -> None:
    """Print the tables, or put them into the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}, with its plot")
    arguments = parser.parse_args()
    model = load()
    for show in TABLES.values():
        print(show(model), end="\n\n")
    if arguments.write:
        PAGE.write_text(put(PAGE.read_text(), model))
        draw(model, PAGE.with_suffix(".png"))


if __name__ == "__main__":
    main()
