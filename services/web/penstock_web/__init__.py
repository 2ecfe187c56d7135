"""The web tier: it answers reads from the cache and accepts jobs; it does no slow work itself."""

from penstock_web.factory import create_app

__all__ = ["create_app"]
