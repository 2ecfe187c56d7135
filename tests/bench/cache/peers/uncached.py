"""Flask without a cache."""

from typing import Any

from bench.cache.peers.reads import articles
from flask import Flask, request

app = Flask(__name__)


@app.get("/api/articles")
def read() -> dict[str, Any]:
    """Answer a page of the articles."""
    return articles(request.args.get("page", 1, int), request.args.get("per_page", 20, int))
