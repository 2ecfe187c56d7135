"""Flower with this project's settings: `penstock-flower`."""

from errno import EADDRINUSE

from flower.views import BaseHandler

from penstock import reach, roles
from penstock.app import app
from penstock.catalogue import BY_QUEUE
from penstock.settings import get_settings, stop

# Milliseconds between two saves; Flower by itself saves only when it is stopped in good order.
SAVE_INTERVAL = 60_000
# Seconds after which a worker that is gone leaves the page; containers come and go.
PURGE_AFTER = 600


def main() -> None:
    """Serve Flower; ends the process with exit code 2 when no sign-in is set."""
    settings = get_settings()
    sign_in = settings.flower_sign_in.get_secret_value() if settings.flower_sign_in else ""
    user, _, password = sign_in.partition(":")
    if not user or not password:
        stop(
            "PENSTOCK_FLOWER_SIGN_IN is not set: set it to user:password,"
            " since Flower shows what jobs carry and can stop workers"
        )
    if not sign_in.isascii() or "," in sign_in:
        # Flower takes what a comma separates for several sign-ins, and compares ASCII alone.
        stop("PENSTOCK_FLOWER_SIGN_IN must be ASCII without a comma")
    reach.require_redis(settings, "broker")
    roles.check(settings, "broker")
    settings.state.mkdir(parents=True, exist_ok=True)
    # Flower asks the workers which queues there are, and would leave out one whose workers are
    # gone.
    BaseHandler.get_active_queue_names = lambda self: list(BY_QUEUE)
    address, _, port = settings.flower_bind.rpartition(":")
    command = [
        "flower",
        f"--address={address}",
        f"--port={port}",
        f"--basic_auth={sign_in}",
        "--persistent=True",
        f"--db={settings.state / 'flower.db'}",
        f"--state_save_interval={SAVE_INTERVAL}",
        f"--purge_offline_workers={PURGE_AFTER}",
        f"--read_only={not settings.flower_control}",
        f"--url_prefix={settings.flower_prefix}",
    ]
    try:
        app.start(command)
    except OSError as error:
        if error.errno != EADDRINUSE:
            raise
        stop(f"{settings.flower_bind} is in use: set PENSTOCK_FLOWER_BIND to another address")
