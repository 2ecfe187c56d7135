"""Jobs that end in ways a handler should not: `celery --app integration.odd_tasks worker`."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from celery import Celery
from celery.exceptions import Ignore

from penstock import install
from penstock.settings import get_settings
from penstock.task import JobTask

app = install(Celery("odd", set_as_current=False), get_settings())
app.conf.update(broker_url=get_settings().redis("broker"), task_default_queue="odd")


class Unreadable(Exception):  # noqa: N818 - what is wrong with it
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unpicklable(Exception):  # noqa: N818 - what is wrong with it
    """It cannot be brought from one process to another."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def _raise(error: BaseException) -> NoReturn:
    raise error


def _circular() -> list[Any]:
    it: list[Any] = []
    it.append(it)
    return it


ENDINGS: dict[str, Callable[[], Any]] = {
    "unreadable": lambda: _raise(Unreadable()),
    "cancelled": lambda: _raise(asyncio.CancelledError()),
    "interrupted": lambda: _raise(KeyboardInterrupt()),
    "exit": lambda: sys.exit(3),
    "no memory": lambda: _raise(MemoryError()),
    "ignored": lambda: _raise(Ignore()),
    "an object": object,
    "no number": lambda: float("nan"),
    "half a character": lambda: "\ud800",
    "a circle": _circular,
    "bytes": lambda: b"\xff",
}


@app.task(bind=True, name="odd.end")  # type: ignore[arg-type]
def end(self: JobTask, ending: str) -> Any:
    """End in one of these ways."""
    return ENDINGS[ending]()


@app.task(bind=True, name="odd.retry", max_retries=1)  # type: ignore[arg-type]
def retry(self: JobTask) -> None:
    """Be tried again for an error that no other process can have."""
    self.retry(exc=Unpicklable(1, 2), countdown=0)


@app.task(bind=True, name="odd.replace")  # type: ignore[arg-type]
def replace(self: JobTask) -> Any:
    """Let another job go on in this one's place."""
    return self.replace(app.signature("odd.end", args=["an object"]))
