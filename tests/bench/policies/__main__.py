"""The `./task cache:policies` command."""

from bench.policies.command import policies

if __name__ == "__main__":
    policies()
