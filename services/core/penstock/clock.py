"""Until when a command counts, by the broker's clock.

A client that has given up waiting cannot take its command back: a server that hung does it when it
goes on, long after the caller was told that it was not done. So a command that must not come late
carries the latest time at which it may be done, and its script looks at the clock first.
"""

from time import monotonic

from redis import ConnectionError as RedisConnectionError
from redis import Redis

# Seconds after which the two clocks are compared again. They drift by a few ms in that time.
COMPARE_INTERVAL = 10.0


class BrokerClock:
    """The broker's clock as this process knows it, without asking for each command."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._compared_at: float | None = None

    def forget(self) -> None:
        """Compare anew next time: the clock was set, or another server has taken over."""
        self._compared_at = None

    def in_(self, seconds: float, client: Redis) -> int:
        """Return the time in `seconds` or a little less, in ms since 1970; may raise RedisError."""
        compared_at = self._compared_at
        if compared_at is None or monotonic() - compared_at > COMPARE_INTERVAL:
            self._compare(client)
        return int((monotonic() + seconds + self._offset) * 1000)

    def _compare(self, client: Redis) -> None:
        try:
            read = client.time()
        except RedisConnectionError:
            # One that was idle may have died unnoticed. Asking for the time again does no harm,
            # and the command that follows then has a connection that works.
            read = client.time()
        seconds, microseconds = read
        # Taken after the answer came, so that the broker's clock is never thought to be ahead.
        self._compared_at = monotonic()
        self._offset = seconds + microseconds / 1e6 - self._compared_at
