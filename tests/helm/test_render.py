"""What every set of values in ci/ renders."""

import json
import re
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions, latest_version, schema_contents
from referencing import Registry, Resource

from helm import rules
from helm.chart import (
    CI,
    GIVEN,
    SETS,
    Manifest,
    Rendered,
    pod_of,
    rendered,
    run,
    template,
    with_values,
)
from penstock_dev import chart
from penstock_dev.embedded import ROOT

pytestmark = pytest.mark.helm

EACH = pytest.mark.parametrize("name", SETS)
VERSIONS = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]
# Definitions of the kinds that are not Kubernetes' own, where the machine has them.
CRDS = ROOT.parent / "shared" / "crds"
KUBERNETES = {"apps/v1", "v1", "batch/v1", "networking.k8s.io/v1", "policy/v1", "autoscaling/v2"}


def test_the_values_that_were_promised_are_there() -> None:
    wanted = {"minimal", "production", "externals", "no-keda", "gateway", "single-node"}
    assert SETS.keys() == wanted
    assert all(path.read_text().startswith("#") for path in CI.iterdir())


@EACH
def test_helm_has_nothing_to_say(name: str) -> None:
    said = run("lint", "--strict", chart.CHART, "--values", SETS[name])
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


@cache
def _definitions(version: str) -> Resource[Any]:
    return Resource.from_contents(schema_contents(f"{_folder(version)}/_definitions.json", version))


@cache
def _validator(version: str, kind: str, api_version: str) -> Draft202012Validator:
    """Return what `kubernetes_validate.validate` makes anew for each object, in seconds each."""
    group, _, number = api_version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    schema = schema_contents(f"{_folder(version)}/{name}.json", version)
    registry: Any = _definitions(version) @ (Resource.from_contents(schema) @ Registry())
    return Draft202012Validator(schema, registry=registry)


def _folder(version: str) -> str:
    whole = next(it for it in all_versions() if it.startswith(f"{version}."))
    return f"kubernetes-json-schema/v{whole}-local-strict"


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(version: str) -> None:
    for name in SETS:
        for manifest in rendered(name).all():
            if manifest["apiVersion"] in KUBERNETES:
                validator = _validator(version, manifest["kind"], manifest["apiVersion"])
                faults = [error.message for error in validator.iter_errors(manifest)]
                assert faults == [], f"{name}: {manifest['kind']} {manifest['metadata']['name']}"


def test_the_newest_kubernetes_is_among_them() -> None:
    assert latest_version().startswith(f"{VERSIONS[-1]}.")


@cache
def _schemas() -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for path in CRDS.glob("*.yaml"):
        for crd in yaml.safe_load_all(path.read_text()):
            for version in crd["spec"]["versions"] if crd else ():
                at = f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]
                found[at] = _strict(version["schema"]["openAPIV3Schema"])
    return found


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema, refusing fields that the API server would drop without a word."""
    made = {
        key: _strict(value)
        if isinstance(value, dict) and key in ("items", "additionalProperties")
        else value
        for key, value in schema.items()
    }
    if "properties" in schema:
        made["properties"] = {key: _strict(it) for key, it in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made


@EACH
def test_operators_know_every_field_of_theirs(name: str) -> None:
    theirs = [it for it in rendered(name).all() if it["apiVersion"] not in KUBERNETES]
    if theirs and not CRDS.is_dir():
        pytest.skip(f"NOT CHECKED: {len(theirs)} objects of operators: {CRDS} is not there")
    for manifest in theirs:
        schema = _schemas()[manifest["apiVersion"], manifest["kind"]]
        schema["properties"]["metadata"] = {}
        errors = Draft202012Validator(schema).iter_errors(manifest)
        assert [error.message for error in errors] == [], manifest["metadata"]["name"]


@pytest.mark.parametrize("rule", rules.EVERY, ids=lambda rule: rule.__name__)
@EACH
def test_a_render_keeps_the_rules(name: str, rule: Any) -> None:
    assert rule(rendered(name)) == []


@EACH
def test_every_pod_is_closed_to_what_is_not_opened(name: str) -> None:
    assert rules.denied_by_default(rendered(name)) == []


@EACH
def test_two_renders_are_alike_to_the_byte(name: str) -> None:
    """Where every secret is given; Helm makes those that are not anew, with no cluster to ask."""
    words = ("template", "penstock", chart.CHART, "--values", SETS[name], "--values", "-")
    assert run(*words, stdin=GIVEN) == run(*words, stdin=GIVEN)


@EACH
def test_only_secrets_that_are_made_differ_between_two_renders(name: str) -> None:
    one, other = rendered(name), Rendered(template(SETS[name]))
    secrets = one.all("Secret")
    assert [it for it in one.all() if it not in secrets] == [
        it for it in other.all() if it["kind"] != "Secret"
    ]
    assert [it["data"].keys() for it in secrets] == [
        it["data"].keys() for it in other.all("Secret")
    ]


@EACH
def test_no_object_is_there_twice(name: str) -> None:
    names = [(it["kind"], it["metadata"]["name"]) for it in rendered(name).all()]
    assert len(set(names)) == len(names)


@EACH
def test_a_selector_finds_the_pods_of_its_part_alone(name: str) -> None:
    pods = {part: pod["metadata"]["labels"].items() for part, pod in rendered(name).pods()}
    for manifest in rendered(name).all(
        "Deployment", "StatefulSet", "Service", "PodDisruptionBudget"
    ):
        selector = manifest["spec"]["selector"]
        labels = selector.get("matchLabels", selector).items()
        part = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        assert [it for it, has in pods.items() if labels <= has] == [part]


def test_what_is_written_elsewhere_is_up_to_date() -> None:
    old = [path.name for path, text in chart.files().items() if path.read_text() != text]
    assert old == [], "run ./task helm:docs"


def test_every_value_is_described() -> None:
    readme = chart.readme()
    rows = [value for value in chart.values() if f"| `{value.name}` |" in readme]
    silent = [it.name for it in rows if not it.text]
    # An entry of workers has the values of workerDefaults, which are described there.
    assert [name for name in silent if not name.startswith("workers.")] == []


def _changed(old: Rendered, new: Rendered, *kinds: str) -> set[str]:
    before = {(it["kind"], it["metadata"]["name"]): json.dumps(it) for it in old.all(*kinds)}
    after = {(it["kind"], it["metadata"]["name"]): json.dumps(it) for it in new.all(*kinds)}
    return {
        it["metadata"]["labels"]["app.kubernetes.io/component"]
        for it in [*old.all(*kinds), *new.all(*kinds)]
        if before.get(key := (it["kind"], it["metadata"]["name"])) != after.get(key)
    }


def _pods(manifests: Rendered) -> dict[str, Manifest]:
    return dict(manifests.pods())


def test_another_version_of_penstock_does_not_start_servers_anew() -> None:
    old = with_values(GIVEN, "single-node")
    new = with_values(GIVEN + "image: {tag: '9.9.9'}\n", "single-node")
    before, after = _pods(old), _pods(new)
    assert {part for part in before if before[part] == after[part]} == {
        *("broker", "results", "cache", "files", "postgresql"),
    }
    # A claim's template can never be changed.
    kept, then = rendered("minimal"), with_values("image: {tag: '9.9.9'}")
    for role in ("broker", "results", "files", "postgresql"):
        one, other = kept.one("StatefulSet", role), then.one("StatefulSet", role)
        assert one["spec"] == other["spec"]


def _asked_for(pod: Manifest, what: str) -> float:
    """Return how much of memory, in bytes, or of processors a pod wants to have for itself."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 0.001}
    first, rest = (
        [
            float(re.sub(r"[a-zA-Z]+$", "", text)) * units.get(re.sub(r"^[0-9.]+", "", text), 1)
            for it in pod["spec"].get(key, [])
            for text in [str(it["resources"]["requests"][what])]
        ]
        for key in ("initContainers", "containers")
    )
    return max([sum(rest), *first])


def test_a_small_node_has_room_for_all_pods_and_for_those_of_an_upgrade() -> None:
    """Two processors and 4 GiB, of which a node keeps a fifth for itself; without the exporters."""
    pods = [pod for part, pod in rendered("single-node").pods() if part != "test"]
    rolled = [
        pod_of(it)
        for it in rendered("single-node").all("Deployment")
        if it["spec"]["strategy"]["type"] == "RollingUpdate"
    ]
    for what, there in (("memory", 4 * 2**30), ("cpu", 2)):
        assert sum(_asked_for(pod, what) for pod in [*pods, *rolled]) < 0.8 * there


def test_another_version_migrates_by_another_job() -> None:
    old = rendered("minimal").one("Job", "migrate")["metadata"]["name"]
    assert with_values("image: {tag: '9.9.9'}").one("Job", "migrate")["metadata"]["name"] != old
    assert with_values("web: {replicas: 3}").one("Job", "migrate")["metadata"]["name"] == old


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ("redis: {broker: {extraConfig: maxmemory 1gb}}", {"broker"}),
        (
            "log: {level: DEBUG}",
            {"web", "email", "image", "report", "payment", "scheduler", "flower"},
        ),
        ("api: {key: another}", {"web"}),
        ("smtp: {host: a.example, password: p}", {"email"}),
        ("redis: {auth: {passwords: {report: another}}}", {"report", "broker", "results", "files"}),
        ("workers: {image: {resources: {limits: {memory: 2Gi}}}}", {"image"}),
    ],
)
def test_a_change_starts_those_anew_whom_it_concerns(values: str, parts: set[str]) -> None:
    old, new = _pods(rendered("minimal")), _pods(with_values(values))
    assert {part for part in old if old[part] != new[part]} - {"migrate", "test"} == parts


def test_nobody_is_started_anew_by_secrets_that_were_made() -> None:
    assert _pods(Rendered(template(SETS["minimal"]))) == _pods(rendered("minimal"))
