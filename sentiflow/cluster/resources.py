"""What the cluster has, and may get -> workers, tasks, cores and threads for each of them.

The rules are here, all of them; what a setting says goes before each rule. They decide how fast a
job is and never what comes out: which rows stand in which part, and in which batch, follows from
input and settings alone.

- A part of a corpus is a task of one core. A cluster is busy while there are at least as many parts
  as cores, and a part should take seconds, as starting one takes milliseconds: ``rows_per_file``.
- No work is set aside for Ray: its own tasks hold no core, and no actor holds one that a task would
  have to wait for.
- A training worker takes one GPU where there are any, else the cores of a node in equal shares.
- It computes on one thread less than it has cores: the other is for reading and for Ray.
- Several scoring tasks share a GPU: while one reads and tokenizes, another computes.
- A node that cannot work, such as a head without cores, is not counted.
"""

from dataclasses import dataclass

from sentiflow.config.sections import TrainSettings
from sentiflow.data.schema import NUM_VIRTUAL_SHARDS
from sentiflow.errors import UserError

_TASKS_ON_GPU = 4


def as_limit(num_workers: int | str) -> int | None:
    """Turn a number of workers, or ``auto``, into a limit to what runs at the same time."""
    return None if num_workers == "auto" else int(num_workers)


@dataclass(frozen=True)
class Resources:
    """What the cluster has, and may get."""

    num_cpus: int
    num_gpus: int
    num_nodes: int
    """Nodes with cores."""
    min_node_cpus: int
    """Cores of the smallest of them."""
    is_one_machine: bool = True
    """Whether the only node is that of this process."""
    may_grow: bool = False
    """Whether nodes may come: of an autoscaler, or in place of others."""
    max_cpus: int = 0
    """What an autoscaler may make of ``num_cpus``; 0 where it does not say."""
    max_gpus: int = 0
    """What it may make of ``num_gpus``."""

    def gpus_per_train_worker(self, wanted: int | str = "auto") -> int:
        """GPUs for a training worker; ``auto``: one, where there are any, or may be."""
        if wanted != "auto":
            return int(wanted)
        return int(self.num_gpus + self.max_gpus > 0)

    def train_workers(
        self, wanted: int | str, *, cpus: int | str = "auto", gpus: int | None = None
    ) -> int:
        """Number of training workers; ``auto``: one for each GPU, else one for each node.

        What an autoscaler could add is used only where it is asked for: it costs money.

        Args:
            wanted: The setting.
            cpus: For each worker; one is enough for ``auto``.
            gpus: For each worker; as :meth:`gpus_per_train_worker` says by default.

        Raises:
            UserError: More are wanted than there are, or can be, cores or GPUs; they would be
                waited for for ever.
        """
        gpus = self.gpus_per_train_worker() if gpus is None else gpus
        each = 1 if cpus == "auto" else int(cpus)
        num_workers = max(1, self.num_gpus if gpus else self.num_nodes)
        if wanted != "auto":
            num_workers = int(wanted)
        for needed, number, most, name in (
            (each, self.num_cpus, self.max_cpus, "cores"),
            (gpus, self.num_gpus, self.max_gpus, "GPUs"),
        ):
            is_hopeless = 0 < most < needed * num_workers if self.may_grow else True
            if needed * num_workers > number and is_hopeless:
                raise UserError(
                    f"train.num_workers={wanted}, but Ray has {max(number, most)} {name}",
                    hint=f"each worker needs {needed}",
                )
        return num_workers

    def runs_in_process(self, num_workers: int, *, gpus: int = 0) -> bool:
        """Say whether training may run in this process, which saves the start of Ray's workers."""
        is_here = self.num_nodes == 1 and self.is_one_machine and gpus <= self.num_gpus
        return num_workers == 1 and is_here

    def cpus_per_train_worker(self, num_workers: int, wanted: int | str = "auto") -> int:
        """Cores for a training worker: its share, if nodes like the smallest have room for all."""
        if wanted != "auto":
            return int(wanted)
        share = min(self.num_cpus // num_workers, self.min_node_cpus)
        while share > 1 and self.num_nodes * (self.min_node_cpus // share) < num_workers:
            share -= 1
        return max(1, share)

    def threads_per_train_worker(self, num_workers: int, wanted: int | str = "auto") -> int:
        """Threads of a training worker: its share of the cores, less one.

        A recurrent step is many small products. Where another process takes one of the cores, each
        of them waits for the slowest thread, and all becomes ten times slower; the core left free
        costs a sixth.
        """
        return max(1, self.cpus_per_train_worker(num_workers, wanted) - 1)

    def advise_parts(self, num_parts: int, *, num_rows: int, setting: str) -> str:
        """Say what would keep all cores of a cluster busy; nothing where they are, or never can be.

        Args:
            num_parts: Of the corpus, each a task of one core.
            num_rows: In all of them.
            setting: That decides how many rows are in a part.
        """
        rows_each = num_rows // self.num_cpus // 1000 * 1000
        if self.is_one_machine or num_parts >= self.num_cpus or not rows_each:
            return ""
        return (
            f"{num_parts} parts for {self.num_cpus} cores: "
            f"{setting}={rows_each} would make enough for all"
        )

    def uses_gpus(self, wanted: float | str) -> bool:
        """Say whether scoring is a work for GPUs."""
        return self.num_gpus > 0 if wanted == "auto" else float(wanted) > 0

    def gpus_per_score_task(self, wanted: float | str = "auto") -> float:
        """Share of a GPU for a scoring task; ``auto``: 0 where there is none.

        Raises:
            UserError: A share of none is wanted; it would be waited for for ever.
        """
        if wanted != "auto":
            if wanted and not self.num_gpus and not self.may_grow:
                raise UserError(
                    f"score.gpus_per_worker={wanted}, but Ray has no GPU", hint="leave it at auto"
                )
            return float(wanted)
        if not self.num_gpus:
            return 0
        return 1 / min(_TASKS_ON_GPU, max(1, self.num_cpus // self.num_gpus))


def count_train_workers(settings: TrainSettings, resources: Resources) -> int:
    """Count the workers; each needs a shard of its own.

    Raises:
        UserError: More are wanted than there are shards, or can be cores or GPUs.
    """
    num_workers = resources.train_workers(
        settings.num_workers,
        cpus=settings.cpus_per_worker,
        gpus=resources.gpus_per_train_worker(settings.gpus_per_worker),
    )
    if num_workers > NUM_VIRTUAL_SHARDS and settings.num_workers != "auto":
        raise UserError(
            f"train.num_workers={num_workers}: there can be {NUM_VIRTUAL_SHARDS}",
            hint="the rows are read in so many shards",
        )
    return min(num_workers, NUM_VIRTUAL_SHARDS)
