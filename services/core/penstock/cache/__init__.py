"""Cached reads for any Flask app: Flask-Caching's interface, correct and without its costs.

`Cache` is what an app works with. A request for a cached view meets the layer first, which answers
what the process has at hand (`layer`, `tier`); then, inside the view's decorator, the store and
whoever else is computing the same (`exchanges`, `flights`, `redis_store`); and at last the view.
"""

from penstock.cache.backends import Backend
from penstock.cache.extension import Cache, everyone

__all__ = ["Backend", "Cache", "everyone"]
