"""Ray Train's notices of nodes that a cloud is about to take back, for one training worker."""

import logging
import threading
import time

import ray.exceptions
import ray.train

log = logging.getLogger(__name__)

_ASK_EVERY_SECONDS = 2.0
"""How often a worker asks. Ray Train itself looks every five seconds for nodes that are drained."""


class LeavingNodes:
    """Listens whether a node with a worker of this training is about to go.

    Ray Train answers when all workers of the training have asked. So a thread of each worker asks,
    and no training step waits for the others.
    """

    def __init__(self) -> None:
        """Prepare; :meth:`listen` begins."""
        self._known: set[str] = set()
        self._is_new = threading.Event()

    def listen(self) -> None:
        """Begin to ask, until the process of the worker ends."""
        threading.Thread(target=self._keep_asking, daemon=True).start()

    def take_notice(self) -> bool:
        """Say whether a further node is about to go since the last call that said so."""
        if not self._is_new.is_set():
            return False
        self._is_new.clear()
        return True

    def _keep_asking(self) -> None:
        """Ask again and again; stop when Ray Train ends the workers."""
        while True:
            try:
                info = ray.train.get_preemption_info()
            except (ray.exceptions.RayError, RuntimeError) as error:
                log.info("Ray Train gives no further notices of nodes: %s", error)
                return
            leaving = set(info.preempted_node_ids) if info else set()
            if leaving - self._known:
                self._known |= leaving
                self._is_new.set()
            time.sleep(_ASK_EVERY_SECONDS)
