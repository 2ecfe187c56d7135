"""Penstock: slow work, taken out of web requests and done reliably."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

    from penstock.settings import Settings


def install(app: Celery, settings: Settings | None = None) -> Celery:
    """Put Penstock's conventions on a Celery app: routes, limits, retries and job records.

    `settings` are those of the environment unless given. Returns the same app.
    """
    # Imported late, so that `penstock health` starts without Celery.
    from penstock.conventions import apply
    from penstock.settings import get_settings

    apply(app, settings or get_settings())
    return app


__all__ = ["install"]
