"""Whom each part of a release may talk to, as data."""

import pytest

from helm import rules
from helm.chart import Rendered, rendered, with_values

pytestmark = pytest.mark.helm

JOBS = {"broker", "results"}
NAMES = {"names"}
# With the values single-node: everything is inside.
INSIDE: dict[str, set[str]] = {
    "web": {*JOBS, "cache", "files", "postgresql", *NAMES},
    "email": {*JOBS, "files", "mail", *NAMES},
    "image": {*JOBS, "files", *NAMES},
    "report": {*JOBS, "files", "postgresql", *NAMES},
    "payment": {*JOBS, "provider", *NAMES},
    "scheduler": {*JOBS, *NAMES},
    "flower": {*JOBS, *NAMES},
    "migrate": {"postgresql", *NAMES},
    "test": {"web", *NAMES},
    **{name: set() for name in ("broker", "results", "cache", "files", "postgresql")},
    **{name: set() for name in ("mail", "provider")},
}
# With the values externals: nothing but the test stays inside.
REDIS = {"outside:6380"}
OUTSIDE: dict[str, set[str]] = {
    "web": {*REDIS, "outside:6379", "outside:6432", "outside:9000", *NAMES},
    "email": {*REDIS, "outside:9000", "outside:587", *NAMES},
    "image": {*REDIS, "outside:9000", *NAMES},
    "report": {*REDIS, "outside:6432", "outside:9000", *NAMES},
    "payment": {*REDIS, "outside:8443", *NAMES},
    "scheduler": {*REDIS, *NAMES},
    "flower": {*REDIS, *NAMES},
    "migrate": {"outside:6432", *NAMES},
    "test": {"web", *NAMES},
}


@pytest.mark.parametrize(("values", "wanted"), [("single-node", INSIDE), ("externals", OUTSIDE)])
def test_a_part_reaches_what_it_needs_and_nothing_else(
    values: str, wanted: dict[str, set[str]]
) -> None:
    assert rules.networked(rendered(values)) == wanted


def _peers(of: Rendered, part: str) -> object:
    rules = of.one("NetworkPolicy", part)["spec"].get("ingress", [])
    return [rule.get("from", "everyone") for rule in rules]


def test_web_lets_everyone_in_unless_it_is_told_whom() -> None:
    assert _peers(rendered("minimal"), "web") == ["everyone"]
    peers = _peers(rendered("gateway"), "web")
    assert "gateways" in str(peers)
    assert "everyone" not in str(peers)


def test_nobody_comes_to_flower_unless_it_is_exposed() -> None:
    assert _peers(rendered("minimal"), "flower") == []
    assert _peers(rendered("production"), "flower") == ["everyone"]
    assert "gateways" in str(_peers(rendered("gateway"), "flower"))


def test_what_is_outside_may_be_narrowed() -> None:
    policies = rendered("externals").all("NetworkPolicy")
    blocks = {
        peer["ipBlock"]["cidr"]
        for policy in policies
        for rule in policy["spec"].get("egress", [])
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    }
    assert blocks == {"10.0.0.0/8"}


def test_there_are_none_where_they_are_not_wanted() -> None:
    assert with_values("networkPolicy: {enabled: false}").all("NetworkPolicy") == []
