"""Load: jobs of 5 to 200 ms, published over a time, whatever becomes of the broker."""

from random import Random
from threading import Thread
from time import monotonic

from chaos.stage import Stage
from chaos.waiting import StoppedError, pause


class Feed:
    """Publishes `jobs` over `seconds`, from a thread.

    Every `lengthy`-th one takes `length` seconds instead.
    """

    def __init__(
        self, stage: Stage, jobs: int, seconds: float, *, lengthy: int = 0, length: float = 0
    ) -> None:
        self.refused = 0
        self._stage = stage
        self._jobs = jobs
        self._interval = seconds / jobs
        self._lengthy = lengthy
        self._length = length
        self._thread = Thread(target=self._publish)
        self._thread.start()

    def _publish(self) -> None:
        random = Random(3)
        began = monotonic()
        accepted = 0
        while accepted < self._jobs:
            try:
                pause(began + accepted * self._interval - monotonic())
            except StoppedError:
                return
            seconds = random.uniform(0.005, 0.2)
            if self._lengthy and accepted % self._lengthy == 0:
                seconds = self._length
            if self._stage.try_to_publish("work", {"seconds": seconds}):
                accepted += 1
            else:
                self.refused += 1

    def join(self) -> None:
        """Return when all are accepted."""
        self._thread.join()
