"""Resources of the cluster -> number of workers and tasks, and cores, threads and GPUs for each.

All rules are here; a setting overrides its rule. The rules decide how fast a job is, never its
results: which rows are in which part, and in which batch, depends on input and settings only.

- A part of a corpus is one task of one core. ``rows_per_file`` should make at least as many parts
  as there are cores, and each part should take seconds, as a task takes milliseconds to start.
- No core is reserved for Ray: its own tasks and the actors use none.
- A training worker takes one GPU if there are any, else an equal share of a node's cores.
- A training worker computes on one thread less than it has cores: the last core is for reading
  and for Ray.
- Several scoring tasks share a GPU: while one reads and tokenizes, another computes.
- A node without cores, such as the head of our cluster files, is not counted.
"""

from dataclasses import dataclass
from typing import NamedTuple

from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import UserError

_TASKS_ON_GPU = 4
"""Scoring tasks that share a GPU, if there are enough cores."""


class _Supply(NamedTuple):
    """How much of a resource the training workers need, and how much there is."""

    name: str
    each: int
    """Number that one worker needs."""
    present: int
    """Number that the cluster has now."""
    most: int
    """Maximum number that an autoscaler may provide; 0 if it does not say."""


class WorkerShare(NamedTuple):
    """What each training worker gets of the cluster."""

    cpus: int
    """Cores that are reserved for it."""
    gpus: int
    """GPUs that are reserved for it."""
    threads: int
    """Threads on which it computes."""


@dataclass(frozen=True)
class Resources:
    """Resources that the cluster has, and that an autoscaler may add."""

    num_cpus: int
    num_gpus: int
    num_nodes: int
    """Nodes with cores."""
    min_node_cpus: int
    """Cores of the smallest node that has any."""
    is_one_machine: bool = True
    """Whether the cluster is a single node."""
    may_grow: bool = False
    """Whether nodes may be added, by an autoscaler or by hand."""
    max_cpus: int = 0
    """Maximum cores that an autoscaler may provide; 0 if it does not say."""
    max_gpus: int = 0
    """Maximum GPUs that an autoscaler may provide; 0 if it does not say."""

    def gpus_per_train_worker(self, setting: int | str = "auto") -> int:
        """Number of GPUs for a training worker; ``auto``: one if the cluster has or may get one."""
        if setting != "auto":
            return int(setting)
        return 1 if self.num_gpus or self.max_gpus else 0

    def train_workers(self, settings: TrainSettings) -> int:
        """Number of training workers; ``auto``: one for each GPU, else one for each node.

        Each worker needs a virtual shard, so there are no more workers than shards. Nodes that an
        autoscaler could add count only if the setting is a number: they cost money.

        Raises:
            UserError: The cluster has too few cores or GPUs, and cannot get more.
        """
        cpus = settings.min_cpus_per_worker
        gpus = self.gpus_per_train_worker(settings.gpus_per_worker)
        if settings.num_workers == "auto":
            num_workers = max(1, self.num_gpus if gpus else self.num_nodes)
        else:
            num_workers = int(settings.num_workers)
        for supply in (
            _Supply(name="cores", each=cpus, present=self.num_cpus, most=self.max_cpus),
            _Supply(name="GPUs", each=gpus, present=self.num_gpus, most=self.max_gpus),
        ):
            needed = supply.each * num_workers
            may_suffice = self.may_grow and (not supply.most or supply.most >= needed)
            if needed > supply.present and not may_suffice:
                raise UserError(
                    f"train.num_workers={settings.num_workers}, but Ray has "
                    f"{max(supply.present, supply.most)} {supply.name}",
                    hint=f"each worker needs {supply.each}",
                )
        return min(num_workers, settings.batching.num_shards)

    def runs_in_process(self, num_workers: int, *, gpus: int = 0) -> bool:
        """Say whether training can run in this process, without the start of a worker."""
        is_only_node = self.num_nodes == 1 and self.is_one_machine
        return num_workers == 1 and is_only_node and gpus <= self.num_gpus

    def cpus_per_train_worker(self, num_workers: int, setting: int | str = "auto") -> int:
        """Number of cores for a training worker; ``auto``: the largest equal share that fits.

        Each node is counted as if it had only as many cores as the smallest node.
        """
        if setting != "auto":
            return int(setting)
        share = min(self.num_cpus // num_workers, self.min_node_cpus)
        while share > 1:
            workers_on_node = self.min_node_cpus // share
            if self.num_nodes * workers_on_node >= num_workers:
                break
            share -= 1
        return max(1, share)

    def threads_per_train_worker(self, num_workers: int, setting: int | str = "auto") -> int:
        """Number of threads of a training worker: one less than its cores, and at least one.

        A recurrent step is many small products, and each waits for its slowest thread. If another
        process uses one of the cores, training is ten times slower; a free core costs a sixth.
        """
        return max(1, self.cpus_per_train_worker(num_workers, setting) - 1)

    def divide(self, settings: TrainSettings, num_workers: int) -> WorkerShare:
        """Divide the cluster among training workers."""
        cpus = settings.cpus_per_worker
        return WorkerShare(
            cpus=self.cpus_per_train_worker(num_workers, cpus),
            gpus=self.gpus_per_train_worker(settings.gpus_per_worker),
            threads=self.threads_per_train_worker(num_workers, cpus),
        )

    def gpus_per_score_task(self, setting: float | str = "auto") -> float:
        """Share of a GPU for a scoring task; ``auto``: 0 if there are no GPUs.

        Raises:
            UserError: The setting asks for a GPU, but the cluster has none and cannot get one.
        """
        if setting != "auto":
            if setting and not self.num_gpus and not self.may_grow:
                raise UserError(
                    f"score.gpus_per_worker={setting}, but Ray has no GPU", hint="leave it at auto"
                )
            return float(setting)
        if not self.num_gpus:
            return 0
        # Each task needs a core, too.
        return 1 / min(_TASKS_ON_GPU, max(1, self.num_cpus // self.num_gpus))
