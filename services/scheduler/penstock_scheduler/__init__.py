"""The scheduler service: work that comes by the clock."""
