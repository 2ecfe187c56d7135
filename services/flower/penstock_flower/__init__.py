"""The monitoring service: Flower."""
