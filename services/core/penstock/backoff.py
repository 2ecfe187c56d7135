"""How long a failed job waits before it is tried again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with jitter and a cap.

    The delay before retry n (from 0) is `min(cap, first * factor**n)` seconds times a random
    number drawn evenly from `jitter`. (0, 1) is "full jitter", which spreads a crowd of retries
    best: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    retries: int
    first: float
    factor: float = 2
    cap: float = 3600
    jitter: tuple[float, float] = (0, 1)

    def delay(self, retry: int, *, scale: float = 1) -> float:
        """Return the seconds to wait before retry number `retry`, counted from 0."""
        ceiling = min(self.cap, self.first * self.factor**retry)
        return scale * ceiling * random.uniform(*self.jitter)  # noqa: S311 - not a secret
