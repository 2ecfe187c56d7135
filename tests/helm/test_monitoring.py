"""What Prometheus is told of a release, and what runs beside its Redis servers for that."""

import re
from copy import deepcopy

import pytest
import yaml

from helm import rules
from helm.chart import SETS, Manifest, Rendered, environment, pod_of, template, with_values
from penstock_dev.embedded import ROOT

pytestmark = pytest.mark.helm

ROLES = ("broker", "results", "cache", "files")
MONITORED = """
monitoring:
  serviceMonitor: {enabled: true}
  podMonitor: {enabled: true}
  redisExporter: {enabled: true}
  prometheusRule: {enabled: true}
"""
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.observability.yaml").read_text())["services"]


def _exporter(rendered: Rendered, role: str) -> Manifest:
    containers = pod_of(rendered.one("StatefulSet", role))["spec"]["containers"]
    return next(it for it in containers if it["name"] == "exporter")


def test_an_alert_is_about_one_release_alone() -> None:
    one = Rendered(template(SETS["minimal"], text=MONITORED, release="mill", namespace="works"))
    groups = one.one("PrometheusRule", "alerts")["spec"]["groups"]
    theirs = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())["groups"]
    assert [len(it["rules"]) for it in groups] == [len(it["rules"]) for it in theirs]
    for rule in (rule for group in groups for rule in group["rules"]):
        series = re.findall(r"\b(?:penstock_[a-z_]+|up)\b(.{0,32})", rule["expr"])
        assert series, rule["alert"]
        for selector in series:
            assert selector.startswith('{namespace="works",job="mill"'), rule["alert"]
        assert rule["labels"].items() >= {"namespace": "works", "release": "mill"}.items()


def test_monitors_name_the_job_that_the_alerts_look_for() -> None:
    monitors = with_values(MONITORED).all("ServiceMonitor", "PodMonitor")
    assert len(monitors) == 3
    for monitor in monitors:
        assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/instance"


def test_an_exporter_is_set_as_in_the_containers() -> None:
    theirs = COMPOSE["broker-exporter"]
    for role in ROLES:
        ours = _exporter(with_values(MONITORED), role)
        assert ours["image"] == theirs["image"]
        given = environment(ours)
        for name in ("USER", "EXPORTER_CONFIG_COMMAND", "EXPORTER_REDIS_ONLY_METRICS"):
            assert given[f"REDIS_{name}"] == theirs["environment"][f"REDIS_{name}"]


def test_only_redis_has_the_port_that_prometheus_is_told_of() -> None:
    rendered = with_values(MONITORED)
    [endpoint] = rendered.one("PodMonitor", "redis")["spec"]["podMetricsEndpoints"]
    having = {
        part
        for part, pod in rendered.pods()
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
        if port["name"] == endpoint["port"]
    }
    assert having == {*ROLES}


def test_the_rules_hold_with_exporters_too_and_notice_one_without_its_password() -> None:
    damaged = Rendered(deepcopy(with_values(MONITORED, "single-node").manifests))
    assert [fault for rule in rules.EVERY for fault in rule(damaged)] == []
    password = next(it for it in _exporter(damaged, "cache")["env"] if "valueFrom" in it)
    password["valueFrom"]["secretKeyRef"]["key"] = "redis-nobody"
    assert rules.unreferenced(damaged) == ["cache: the Secret penstock has no redis-nobody"]


@pytest.mark.parametrize("who", [None, [{"namespaceSelector": {}}]])
def test_prometheus_comes_to_the_exporters_and_not_to_redis(who: list[object] | None) -> None:
    text = MONITORED + (f"networkPolicy: {{exporterFrom: {who}}}" if who else "")
    for role in ROLES:
        let_in = with_values(text).one("NetworkPolicy", role)["spec"]["ingress"]
        by_port = {rule["ports"][0]["port"]: rule.get("from") for rule in let_in}
        assert by_port.keys() == {6379, 9121}
        assert by_port[9121] == who
        assert all("podSelector" in peer for peer in by_port[6379])


def test_there_is_no_exporter_unless_it_is_wanted() -> None:
    assert "exporter" not in str([it for _, it in with_values("{}").pods() if "9121" in str(it)])
    assert not with_values("{}").has("PodMonitor", "redis")
