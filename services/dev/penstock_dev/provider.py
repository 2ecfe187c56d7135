"""A small payment provider: it takes no money, but behaves like one that does.

A charge is made once for each Idempotency-Key, however often it is asked for, and every charge is
a line of the ledger, which survives a restart. A reference that begins with `decline` is declined.
"""

import json
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server


class Ledger:
    """The charges, by the key they were asked for with, kept as one JSON line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        lines = self.path.read_text().splitlines()
        self.charges: dict[str, dict[str, Any]] = {
            charge["idempotency_key"]: charge for charge in map(json.loads, lines)
        }

    def charge(self, key: str, order: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return the charge under `key`, and whether it was made just now."""
        with self.lock:
            if key in self.charges:
                return self.charges[key], False
            charge = {"id": f"ch_{uuid4().hex}", "idempotency_key": key, **order}
            with self.path.open("a") as ledger:
                ledger.write(json.dumps(charge) + "\n")
            self.charges[key] = charge
            return charge, True


def create_app(ledger: Ledger) -> Flask:
    """Return the provider as a web application."""
    app = Flask(__name__)

    @app.get("/livez")
    def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ledger")
    def read_ledger() -> Response:
        return jsonify(list(ledger.charges.values()))

    @app.post("/charges")
    def charge() -> tuple[dict[str, Any], int]:
        key = request.headers.get("Idempotency-Key")
        if not key:
            return {"error": "the header Idempotency-Key is missing"}, 400
        order = request.get_json()
        if not _is_order(order):
            return {"error": "wanted: amount (minor units), currency, reference"}, 422
        if order["reference"].startswith("decline"):
            return {"error": "the card was declined"}, 402
        made, new = ledger.charge(key, order)
        if {name: made[name] for name in order} != order:
            return {"error": "this Idempotency-Key was used for another charge"}, 422
        return made, 201 if new else 200

    return app


def _is_order(order: Any) -> bool:
    return (
        isinstance(order, dict)
        and order.keys() == {"amount", "currency", "reference"}
        and isinstance(order["amount"], int)
        and order["amount"] > 0
        and isinstance(order["currency"], str)
        and isinstance(order["reference"], str)
    )


def serve(host: str, port: int, ledger: Path) -> None:
    """Serve until the process is ended."""
    make_server(host, port, create_app(Ledger(ledger)), threaded=True).serve_forever()
