"""The stack without containers, as `./task up` runs it: every process for real."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import requests
from processes import LIMIT, Running, environment, run, until

from penstock_dev.embedded import procfile

# Seconds that the stack gets to start or to end; two processors start nine services at once.
PATIENCE = 90.0
COMMAND = (sys.executable, "-m", "penstock_dev")


class Stack(Running):
    """A stack that keeps all in the folder `var`; it prints its addresses when it is ready."""

    def __init__(self, var: Path, **settings: object) -> None:
        self.var = var
        self.environment = environment(var=var, **settings)
        super().__init__(*COMMAND, "up", "--embedded", env=self.environment, log=var / "up.log")

    @property
    def services(self) -> dict[str, psutil.Process]:
        """The services that run, by name; each says in its environment where its heartbeat is."""
        ...
