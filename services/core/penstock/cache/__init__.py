"""Cached reads for any Flask app: Flask-Caching's interface, correct and without its costs."""
