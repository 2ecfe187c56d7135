"""A client of a debugger, as an editor is one.

Source: https://microsoft.github.io/debug-adapter-protocol/specification, requests and events as
JSON behind a header with the length.
"""

import json
import socket
from itertools import count
from typing import Any, Self

# Seconds that an answer or an event gets.
LIMIT = 30.0


class Debugger:
    """A session with the debugger that listens on a port of this machine."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.stream = self.socket.makefile("rb")
        self.numbers = count(1)
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.socket.close()

    def attach(self, local: str, remote: str, line: int, **how: Any) -> None:
        """Attach, with one breakpoint, in a file that is at `remote` where it runs."""
        folders = [{"localRoot": local.rpartition("/")[0], "remoteRoot": remote.rpartition("/")[0]}]
        self.ask("initialize", adapterID="debugpy", pathFormat="path")
        # Answered only once the configuration is done.
        self.send("attach", pathMappings=folders, **how)
        self.event("initialized")
        self.ask("setBreakpoints", source={"path": local}, breakpoints=[{"line": line}])
        self.ask("configurationDone")

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event and return what it says."""
        while not (found := [it for it in self.events if it["event"] == name]):
            self._read()
        self.events.remove(found[0])
        return dict(found[0].get("body", {}))

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the body of its answer."""
        number = self.send(command, **arguments)
        while (message := self._read()).get("request_seq") != number:
            pass
        assert message["success"], message
        return dict(message.get("body", {}))

    def send(self, command: str, **arguments: Any) -> int:
        """Send a request and return its number."""
        number = next(self.numbers)
        request = {"seq": number, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(request).encode()
        self.socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        return number

    def _read(self) -> dict[str, Any]:
        length = 0
        while (header := self.stream.readline().strip()) or not length:
            length = int(header.removeprefix(b"Content-Length: "))
        message: dict[str, Any] = json.loads(self.stream.read(length))
        if message["type"] == "event":
            self.events.append(message)
        return message
