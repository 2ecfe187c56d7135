"""The alerts and the dashboard as files; tests/compose has them at work."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule["alert"] for rule in RULES]
CASES = yaml.safe_load((ROOT / "tests" / "compose" / "rules.test.yaml").read_text())["tests"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "penstock.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def asked(alert: str) -> list[Any]:
    """Return what the tests of the rules expect of an alert, each time that they look."""
    return [
        look["exp_samples"]
        for case in CASES
        for look in case["promql_expr_test"]
        if f'"{alert}"' in look["expr"]
    ]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_seen_to_fire_and_not_to_fire(alert: str) -> None:
    expected = asked(alert)
    assert any(expected)
    assert not all(expected)


@pytest.mark.parametrize("rule", RULES, ids=ALERTS)
def test_an_alert_says_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(rule["annotations"]["summary"]) < 120
    assert len(rule["annotations"]["description"].split()) > 8


def test_the_documentation_has_every_alert_and_no_other() -> None:
    text = (ROOT / "docs" / "observability.md").read_text()
    assert set(re.findall(r"\bPenstock[A-Z]\w+", text)) == set(ALERTS)


def test_no_rule_is_of_one_way_to_deploy_alone() -> None:
    for rule in RULES:
        assert not re.search(r"compose|container|pod|namespace", rule["expr"])


def test_the_panels_are_apart_and_read_the_source_that_is_chosen() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${source}"

    def cells(panel: dict[str, Any]) -> tuple[range, range]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        return range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])

    for one, other in combinations(map(cells, PANELS), 2):
        assert not all(set(a) & set(b) for a, b in zip(one, other, strict=True))


def test_grafana_finds_the_dashboard_and_prometheus_where_compose_has_them() -> None:
    text = (DEPLOY / "compose.observability.yaml").read_text()
    folder = DEPLOY / "grafana" / "provisioning"
    [provider] = yaml.safe_load((folder / "dashboards" / "penstock.yaml").read_text())["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in text
    assert f"{provider['options']['path']}/penstock.json" in text
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    services = yaml.safe_load(text)["services"]
    assert source["url"] == "http://prometheus:9090"
    assert set(services["grafana"]["networks"]) & set(services["prometheus"]["networks"])
