"""A mail server that delivers nothing: each message becomes an .eml file that can be opened."""

import asyncio
from pathlib import Path
from time import time_ns

from aiosmtpd.smtp import SMTP, Envelope, Session


class Catcher:
    """Keeps what arrives in `folder`, one file a message."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def handle_DATA(  # noqa: N802 - the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keep the message and say that it was accepted."""
        path = self.folder / f"{time_ns()}.eml"
        hidden = path.with_suffix(".part")
        hidden.write_bytes(envelope.original_content or b"")
        hidden.rename(path)
        return "250 kept"


def serve(host: str, port: int, folder: Path) -> None:
    """Catch mail until the process is ended."""
    folder.mkdir(parents=True, exist_ok=True)
    catcher = Catcher(folder)

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(catcher, enable_SMTPUTF8=True), host=host, port=port
        )
        await server.serve_forever()

    asyncio.run(listen())
