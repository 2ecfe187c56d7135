"""All scenarios, in the order of the table."""

from chaos.scenarios import kills, leases, messages, poison, retries, stops, strangers

__all__ = ["kills", "leases", "messages", "poison", "retries", "stops", "strangers"]
