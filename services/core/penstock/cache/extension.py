"""Flask-Caching's `Cache` on this package's back ends: the same calls, which can say more."""

import inspect
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import wraps
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import flask_caching
from flask import Flask, current_app, has_app_context, make_response, request
from werkzeug.wrappers import Response

from penstock.cache import backends, codec, keys
from penstock.cache.backends import Backend
from penstock.cache.exchanges import NAME, Exchange, Rule
from penstock.cache.layer import Guard, Layer, Request

if TYPE_CHECKING:
    from penstock.cache.asgi import AsgiLayer

# Where an app has the layer before it.
LAYER = "penstock-cache-layer"

Args = ParamSpec("Args")
Answer = TypeVar("Answer")
Timeout = float | timedelta | None
# Names, or what makes them of a view's arguments.
Tags = Iterable[str] | Callable[..., Iterable[str]]


class Cache(flask_caching.Cache):
    """As flask_caching.Cache, with back ends that cannot execute what they read.

    CACHE_TYPE is TieredCache, MemcachedCache, FileSystemCache, SimpleCache or NullCache of this
    package, or the path of another subclass of `penstock.cache.Backend`.
    """

    _guarded = False

    def init_app(
        self, app: Flask, config: dict[str, Any] | None = None, guard: Guard | None = None
    ) -> None:
        """Set up the back end, and put the cache before the app.

        `guard(request)` tells whether a request may be answered before the app has seen it, by its
        `method`, `path` and `header(name)`; what it returns False for goes to the app, which
        refuses it or not. `everyone` is one for an app whose cached views are public. Without a
        guard kept answers are sent by the views, after all that the app does before them, and each
        Authorization has answers of its own.
        """
        super().init_app(app, config)
        self._guarded = guard is not None
        layer = Layer(app.wsgi_app, self.cache_of(app), guard)
        app.wsgi_app = layer  # type: ignore[method-assign]
        app.extensions[LAYER] = layer

    def asgi(self, app: Flask, threads: int = 8) -> "AsgiLayer":
        """Return an app that was set up as an ASGI application; `threads` run its views.

        Needs the package a2wsgi.
        """
        from penstock.cache.asgi import AsgiLayer

        return AsgiLayer(app, app.extensions[LAYER], threads)

    def _set_cache(self, app: Flask, config: dict[str, Any]) -> None:
        name = config["CACHE_TYPE"]
        if "." not in name:
            if not issubclass(getattr(backends, name, object), Backend):
                raise ValueError(
                    f"CACHE_TYPE: there is no {name!r}, only TieredCache, MemcachedCache,"
                    " FileSystemCache, SimpleCache and NullCache"
                )
            config["CACHE_TYPE"] = f"{backends.__name__}.{name}"
        super()._set_cache(app, config)
        if not isinstance(self.cache_of(app), Backend):
            raise ValueError(f"CACHE_TYPE: {name!r} is no subclass of penstock.cache.Backend")

    def cache_of(self, app: Flask) -> Backend:
        """Return the back end that an app has."""
        return cast("Backend", app.extensions["cache"][self])

    @property
    def backend(self) -> Backend:
        """The back end of the current app."""
        return self.cache_of(current_app)

    # What is dropped

    def drop_tags(self, *tags: str) -> bool:
        """Drop every entry that carries one of the tags, in every process.

        Takes the same time however many do, and what is being computed now is not kept. Returns
        False where the store could not be told; it is told before it is asked anything again.
        """
        return self.backend.drop(tags=tags)

    def drop_prefix(self, prefix: str) -> bool:
        """Drop what is under a key, or the views whose path, begins with `prefix`.

        Goes through all keys; Memcached and a folder drop everything.
        """
        return self.backend.drop(prefix=keys.readable(prefix) if prefix[:1] == "/" else prefix)

    def report(self) -> dict[str, Any]:
        """Return the numbers by view and tier."""
        return self.backend.report()

    # What is kept

    def cached(  # type: ignore[override]
        self,
        timeout: Timeout = None,
        *,
        tags: Tags = (),
        vary: Iterable[str] = (),
        user: Callable[[], str] | None = None,
        stale: float | None = None,
        stale_on_error: float | None = None,
        not_found: float = 0,
        max_age: int = 0,
        unless: Callable[..., bool] | None = None,
        response_filter: Callable[[Response], bool] | None = None,
    ) -> Callable[[Callable[Args, Any]], Callable[Args, Any]]:
        """Keep the finished answers of a view.

        `timeout`, `stale` and `stale_on_error` are as in `Lifetime`, by default those of the
        configuration; `not_found` keeps a 404 for so many seconds. `tags` are names or a function
        of the view's arguments that returns them. `vary` names headers that the answer depends on,
        beside those that it names itself; `user` says whom it is for, where it is not for
        everyone. A client may use its own copy for `max_age` seconds without asking. `unless` is
        called with the view's arguments and turns the cache off; an answer for which
        `response_filter` is false is not kept.
        """
        declared = frozenset(name.lower() for name in vary)

        def decorate(view: Callable[Args, Any]) -> Callable[Args, Any]:
            @wraps(view)
            def read(*args: Args.args, **kwargs: Args.kwargs) -> Any:
                exchange = request.environ.get(NAME)
                run = current_app.ensure_sync(view)
                if (
                    not isinstance(exchange, Exchange)
                    # One view has called another.
                    or exchange.rule is not None
                    or (unless and unless(*args, **kwargs))
                ):
                    return run(*args, **kwargs)
                rule = Rule(
                    label=request.endpoint or view.__qualname__,
                    lifetime=exchange.backend.lifetime(timeout, stale, stale_on_error),
                    not_found=not_found,
                    max_age=max_age,
                    names=declared if self._guarded else declared | {"authorization"},
                    tags=_tags(tags, args, kwargs),
                    user=user() if user else None,
                )
                answer = exchange.enter(rule)
                if answer is not None:
                    # The layer sends the kept answer itself.
                    return Response(answer.body, answer.status)
                response = make_response(run(*args, **kwargs))
                kept = response_filter is None or response_filter(response)
                exchange.streamed = response.is_streamed or not kept
                return response

            read.uncached = view  # type: ignore[attr-defined]
            return read

        return decorate

    def memoize(  # type: ignore[override]
        self,
        timeout: Timeout = None,
        *,
        tags: Tags = (),
        stale: float | None = None,
        stale_on_error: float | None = None,
        make_name: Callable[[str], str] | None = None,
        unless: Callable[..., bool] | None = None,
        args_to_ignore: Iterable[str] = (),
        cache_none: bool = False,
    ) -> Callable[[Callable[Args, Answer]], Callable[Args, Answer]]:
        """Keep what a function returns for its arguments, and compute it once for all who ask.

        As Flask-Caching's, with `tags`, `stale` and `stale_on_error` of `cached`. Arguments must be
        what the codec carries, or say by `__caching_id__()` who they are; anything else raises
        TypeError. So does a returned value that it does not carry.
        """
        ignored = frozenset(args_to_ignore)

        def decorate(function: Callable[Args, Answer]) -> Callable[Args, Answer]:
            plain = f"{function.__module__}.{function.__qualname__}"
            name = make_name(plain) if make_name else plain
            signature = inspect.signature(function)

            def key_of(*args: Any, **kwargs: Any) -> str:
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                given = {key: it for key, it in bound.arguments.items() if key not in ignored}
                identity = codec.dumps(_identified(given))
                return f"memo:{name}:{sha256(identity).hexdigest()}"

            @wraps(function)
            def read(*args: Args.args, **kwargs: Args.kwargs) -> Answer:
                backend = self.backend
                if not backend.keeps or (unless and unless(function, *args, **kwargs)):
                    return function(*args, **kwargs)
                app = current_app._get_current_object()  # type: ignore[attr-defined]

                def compute() -> Answer:
                    if has_app_context():
                        return function(*args, **kwargs)
                    with app.app_context():
                        return function(*args, **kwargs)

                return cast(
                    "Answer",
                    backend.fetch(
                        key_of(*args, **kwargs),
                        compute,
                        backend.lifetime(timeout, stale, stale_on_error),
                        tags=(f"memo:{name}", *_tags(tags, args, kwargs)),
                        label=name,
                        keeps=lambda value: cache_none or value is not None,
                    ),
                )

            read.uncached = function  # type: ignore[attr-defined]
            read.make_cache_key = key_of  # type: ignore[attr-defined]
            read.all_tag = f"memo:{name}"  # type: ignore[attr-defined]
            return read

        return decorate

    def delete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> None:
        """Drop what a memoized function returned for these arguments or, without any, for all."""
        if args or kwargs:
            self.backend.delete(f.make_cache_key(*args, **kwargs))
        else:
            self.drop_tags(f.all_tag)

    def delete_memoized_verhash(self, f: Any, *args: Any) -> None:
        """Drop what is kept of a memoized function for all arguments."""
        self.drop_tags(f.all_tag)

    def delete_cached(self, *_: Any, **__: Any) -> bool:
        """Raise NotImplementedError: a view has many keys. Drop its tag or its path's prefix."""
        raise NotImplementedError("drop a view's answers by drop_tags or drop_prefix")


def everyone(_: Request) -> bool:
    """Let every request be answered before the app has seen it."""
    return True


def _tags(tags: Tags, args: Iterable[Any], kwargs: dict[str, Any]) -> tuple[str, ...]:
    made = tags(*args, **kwargs) if callable(tags) else tags
    # In one order, so that a script gets them in one order.
    return tuple(sorted(set(made)))


def _identified(value: Any) -> Any:
    """Return an argument as the codec carries it, so that equal ones give equal bytes."""
    if hasattr(value, "__caching_id__"):
        return ["id", type(value).__qualname__, value.__caching_id__()]
    if isinstance(value, dict):
        pairs = [[codec.dumps(key), _identified(item)] for key, item in value.items()]
        return ["dict", sorted(pairs, key=lambda pair: pair[0])]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted(codec.dumps(_identified(item)) for item in value)]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [_identified(item) for item in value]]
    return value
