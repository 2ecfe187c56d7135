"""Prometheus beside the running stack: what it scrapes, its alerts, and what the dashboard asks."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import pytest
import requests
import yaml
from helm.chart import with_values

from compose.conftest import ROOT, Stack
from penstock.catalogue import BY_QUEUE

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

PROMETHEUS = "prom/prometheus:v3.5.3"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
CASES = ROOT / "tests" / "compose" / "rules.test.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "penstock.json"
PAYMENT = {"order": "o-1", "amount": "19.90", "currency": "EUR"}
# What Grafana puts into an expression.
FILLED_IN = {"$queue": ".*", "$__rate_interval": "1m", "$__range": "1h"}


def promtool(*words: str, **files: Path) -> None:
    """Run promtool, which must be content, on files that it finds as /NAME.yml."""
    mounts = [
        word
        for name, path in files.items()
        for word in ("--volume", f"{path}:/rules/{name}.yml:ro")
    ]
    run = ("docker", "run", "--rm", "--network", "none", "--entrypoint", "promtool")
    done = subprocess.run(
        [*run, *mounts, PROMETHEUS, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def asked_by_the_dashboard() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    exprs = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    for name, value in FILLED_IN.items():
        exprs = [expr.replace(name, value) for expr in exprs]
    return exprs


def test_each_alert_fires_for_what_it_is_for_and_for_nothing_else() -> None:
    promtool("test", "rules", "/rules/cases.yml", rules=RULES, cases=CASES)


def test_a_rule_that_is_blunted_fails_its_test(tmp_path: Path) -> None:
    blunt = tmp_path / "rules.yml"
    blunt.write_text(RULES.read_text().replace("> 0.85", "> 0.95"))
    blunt.chmod(0o644)
    with pytest.raises(AssertionError, match="PenstockRedisMemoryHigh"):
        promtool("test", "rules", "/rules/cases.yml", rules=blunt, cases=CASES)


def of_a_release(cases: str) -> str:
    """Return the cases as they are where the chart's monitors name what is scraped."""
    ours = 'namespace="jobs",job="penstock"'
    cases = re.sub(r"'(penstock_\w+)(?:\{(.*?)\})?'", rf"'\1{{{ours},\2}}'", cases)
    cases = re.sub(r"(?<=up\{)job=\"penstock-\w+\"", ours, cases)
    cases = cases.replace("severity=", 'namespace="jobs",release="penstock",severity=')
    # What is missing has the labels that it is looked for by.
    cases = re.sub(r"(?<=labels: 'ALERTS\{)(?=alertname=\"PenstockNotS)", 'job="penstock",', cases)
    return cases.replace('job="penstock-web"', 'job="penstock"')


def try_the_chart(folder: Path, text: str) -> None:
    """Run the cases in `text` on the chart's rules; raises AssertionError where one fails."""
    chart = with_values("monitoring: {prometheusRule: {enabled: true}}")
    rules, cases = folder / "rules.yml", folder / "cases.yml"
    rules.write_text(yaml.safe_dump(chart.one("PrometheusRule", "alerts")["spec"]))
    cases.write_text(text)
    for path in (rules, cases):
        path.chmod(0o644)
    promtool("test", "rules", "/rules/cases.yml", rules=rules, cases=cases)


def test_each_alert_of_the_chart_does_so_for_its_release(tmp_path: Path) -> None:
    try_the_chart(tmp_path, of_a_release(CASES.read_text()))


def test_no_alert_of_the_chart_is_about_another_release(tmp_path: Path) -> None:
    theirs = of_a_release(CASES.read_text()).replace('job="penstock"', 'job="another"')
    with pytest.raises(AssertionError, match="PenstockRedisDown"):
        try_the_chart(tmp_path, theirs)


def test_what_the_dashboard_asks_can_be_parsed(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expr}
        for number, expr in enumerate(asked_by_the_dashboard())
    ]
    written = tmp_path / "panels.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "/rules/panels.yml", panels=written)


# At work


def ask(stack: Stack, path: str, **query: str) -> Any:
    """Return what Prometheus' API answers."""
    url = f"{stack.url('prometheus', 9090)}/api/v1/{path}"
    answer = requests.get(url, params=query, timeout=10)
    assert answer.ok, answer.text
    return answer.json()["data"]


def value(stack: Stack, expr: str) -> float | None:
    """Return the value of an expression that has one, or None where it has none yet."""
    result = ask(stack, "query", query=expr)["result"]
    return float(result[0]["value"][1]) if result else None


def until(condition: Callable[[], bool], what: str, limit: float = 60) -> None:
    deadline = monotonic() + limit
    while not condition():
        assert monotonic() < deadline, what
        sleep(0.5)


def test_every_target_is_up(stack: Stack) -> None:
    def up() -> bool:
        targets = ask(stack, "targets", state="active")["activeTargets"]
        found = [(it["scrapePool"], it["labels"].get("role")) for it in targets]
        assert sorted(found, key=str) == [
            ("penstock-redis", "broker"),
            ("penstock-redis", "cache"),
            ("penstock-redis", "results"),
            ("penstock-web", None),
            ("prometheus", None),
        ]
        return all(it["health"] == "up" for it in targets)

    until(up, "every target is up")
    assert value(stack, "sum(redis_up)") == 3
    assert value(stack, "max(penstock_broker_up)") == 1


def test_an_exporter_is_let_in_after_its_password_was_changed(stack: Stack) -> None:
    changed = stack.task("rotate", "redis_exporter")
    assert changed.returncode == 0, changed.stderr
    since = f"redis_up == 1 and timestamp(redis_up) > {time()}"
    until(lambda: value(stack, f"count({since})") == 3, "each server is seen with the new one")


def test_the_rules_are_those_of_the_file_and_can_be_evaluated(stack: Stack) -> None:
    def evaluated() -> bool:
        rules = [it for group in ask(stack, "rules")["groups"] for it in group["rules"]]
        assert {it["name"] for it in rules} == set(re.findall(r"alert: (\w+)", RULES.read_text()))
        assert not [it["lastError"] for it in rules if it.get("lastError")]
        return all(it["health"] == "ok" for it in rules)

    until(evaluated, "every rule was evaluated")


def test_the_figures_of_a_queue_move_when_jobs_wait_and_when_they_are_done(stack: Stack) -> None:
    backlog = 'max(penstock_queue_backlog{queue="payment"})'
    ended = (
        'max(penstock_jobs_ended_total{queue="payment",job_name="payment.process",state="SUCCESS"})'
    )
    before = value(stack, ended) or 0
    until(lambda: value(stack, backlog) == 0, "no payment waits")
    stack.run("stop", "payment")
    try:
        for number in range(3):
            answer = stack.api("POST", "/api/payments", {**PAYMENT, "order": f"watched-{number}"})
            assert answer.status_code == 202
        assert stack.api("GET", "/api/queues/payment").json()["backlog"] == 3
        until(lambda: value(stack, backlog) == 3, "three payments wait")
        assert value(stack, 'max(penstock_queue_oldest_age_seconds{queue="payment"})') != 0
    finally:
        stack.run("up", "--detach", "--wait", "--no-deps", "--no-recreate", "payment")
    until(lambda: value(stack, backlog) == 0, "no payment waits any more")
    until(lambda: value(stack, ended) == before + 3, "three payments more have ended")


def test_whatever_the_alerts_and_the_dashboard_name_is_there(stack: Stack) -> None:
    text = stack.api("GET", "/metrics").text
    # What has not happened yet has a name and no series.
    declared = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    there = declared | set(ask(stack, "label/__name__/values"))
    exprs = [
        rule["expr"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
    ]
    named = set(re.findall(r"\b(?:penstock|redis)_\w+", " ".join(exprs + asked_by_the_dashboard())))
    assert len(named) > 20
    assert named - there == set()


def test_the_queues_that_are_told_are_those_of_the_catalogue(stack: Stack) -> None:
    assert set(ask(stack, "label/queue/values")) - {""} == set(BY_QUEUE)


def test_no_secret_is_in_what_prometheus_shows(stack: Stack) -> None:
    shown = json.dumps([ask(stack, "status/config"), ask(stack, "targets")])
    assert stack.secret("api_key") not in shown
