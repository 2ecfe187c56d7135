"""Releases with long names, and two of them in one namespace."""

import pytest

from helm import rules
from helm.chart import SETS, Rendered, template
from penstock.catalogue import QUEUES

pytestmark = pytest.mark.helm

# What follows in the name of a pod: the hash of the replica set, a number, five letters.
POD = {"Deployment": "-0123456789-01234", "StatefulSet": "-0", "Job": "-01234"}
LONGEST = "a-release-with-a-name-that-is-as-long-as-helm-takes-1"


@pytest.fixture(scope="module")
def long() -> Rendered:
    return Rendered(template(SETS["production"], release=LONGEST))


def test_no_name_is_longer_than_kubernetes_takes(long: Rendered) -> None:
    assert len(LONGEST) == 53
    for manifest in long.all():
        name = manifest["metadata"]["name"]
        assert len(name + POD.get(manifest["kind"], "")) <= 63, name
        for key, label in manifest["metadata"].get("labels", {}).items():
            assert len(label) <= 63, key


def test_a_worker_is_known_by_the_whole_name_of_its_pod(long: Rendered) -> None:
    for queue in QUEUES:
        name = long.one("Deployment", queue.name)["metadata"]["name"]
        assert len(f"{name}-0123456789-01234") <= 63


def test_a_long_name_changes_nothing_else(long: Rendered) -> None:
    for rule in (*rules.EVERY, rules.denied_by_default):
        assert rule(long) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("penstock", "penstock-b"), ("jobs", "jobs-b"), (LONGEST, LONGEST[:-1] + "2")],
)
def test_two_releases_in_one_namespace_share_nothing(one: str, other: str) -> None:
    first, second = (Rendered(template(SETS["single-node"], release=it)) for it in (one, other))
    names = [
        {(it["kind"], it["metadata"]["name"]) for it in them.all()} for them in (first, second)
    ]
    assert names[0] & names[1] == set()
    for service in first.all("Service"):
        selector = service["spec"]["selector"].items()
        assert not any(selector <= pod["metadata"]["labels"].items() for _, pod in second.pods())


@pytest.mark.parametrize(
    ("values", "release", "name"),
    [
        ("{}", "penstock", "penstock-web"),
        ("{}", "my-penstock", "my-penstock-web"),
        ("{}", "jobs", "jobs-penstock-web"),
        ("nameOverride: mill", "jobs", "jobs-mill-web"),
        ("fullnameOverride: mill", "jobs", "mill-web"),
    ],
)
def test_a_name_follows_from_the_release_unless_it_is_given(
    values: str, release: str, name: str
) -> None:
    made = Rendered(template(SETS["minimal"], text=values, release=release))
    assert made.one("Deployment", "web")["metadata"]["name"] == name
    label = "mill" if values == "nameOverride: mill" else "penstock"
    assert made.one("Service", "web")["spec"]["selector"]["app.kubernetes.io/name"] == label
    for rule in (*rules.EVERY, rules.denied_by_default):
        assert rule(made) == []
