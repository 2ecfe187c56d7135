"""Every value does something, and no other value is taken."""

from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from helm.chart import GIVEN, SETS, RefusedError, Rendered, run, template
from penstock_dev import chart

pytestmark = pytest.mark.helm

# What must be set as well before a value can be seen to do something: by the beginning of its path.
BEFORE: dict[str, str] = {
    "serviceAccount.annotations": "serviceAccount: {create: true}",
    "web.replicas": "web: {autoscaling: {enabled: false}}",
    "web.autoscaling.": "web: {autoscaling: {enabled: true}}",
    "ingress.": "ingress: {enabled: true, hosts: [a.example]}",
    "gateway.": "gateway: {enabled: true, parentRefs: [{name: a}]}",
    "autoscaling.keda.prometheusAddress": (
        "autoscaling: {engine: keda, keda: {trigger: prometheus, prometheusAddress: http://a}}"
    ),
    "autoscaling.keda.trigger": "autoscaling: {engine: keda, keda: {prometheusAddress: http://a}}",
    "autoscaling.": "autoscaling: {engine: keda}",
    "workers.": "autoscaling: {engine: keda}",
    "workerDefaults.replicas": "{}",
    "workerDefaults.autoscaling.targetCPU": "autoscaling: {engine: hpa}",
    "workerDefaults.autoscaling.": "autoscaling: {engine: keda}",
    "smtp.existingSecretKeys": "smtp: {existingSecret: a}",
    "smtp.": "smtp: {host: a.example}",
    "payment.existingSecretKeys": "payment: {existingSecret: a}",
    "payment.": "payment: {url: https://a.example}",
    "api.existingSecretKeys": "api: {existingSecret: a}",
    "api.operator.existingSecretKeys": "api: {operator: {existingSecret: a}}",
    "flower.existingSecretKeys": "flower: {existingSecret: a}",
    "flower.ingress.": "flower: {signIn: 'a:b', ingress: {enabled: true, hosts: [a.example]}}",
    "flower.gateway.": "flower: {signIn: 'a:b', gateway: {enabled: true, parentRefs: [{name: a}]}}",
    "files.volume.": "files: {store: volume}",
    "files.s3.existingSecret": (
        "files: {store: s3, s3: {bucket: a, accessKeyId: a, existingSecret: a}}"
    ),
    "files.s3.": "files: {store: s3, s3: {bucket: a, accessKeyId: a, secretAccessKey: a}}",
    "redis.auth.existingSecretKeys": "redis: {auth: {existingSecret: a}}",
    **{
        f"redis.{role}.external.{key}": (
            f"redis: {{{role}: {{enabled: false, external: {{host: a.example, {more}}}}}}}"
        )
        for role in ("broker", "results", "cache", "files")
        for key, more in {
            "existingSecretKeys": "existingSecret: a",
            "tls.caKey": "tls: {enabled: true, caSecret: a}",
            "tls.caSecret": "tls: {enabled: true}",
            "": "port: 6379",
        }.items()
    },
    "postgresql.auth.existingSecretKeys": "postgresql: {auth: {existingSecret: a}}",
    "postgresql.external.tls.ca": (
        "postgresql: {enabled: false, auth: {password: a},"
        " external: {host: a.example, tls: {enabled: true, caSecret: a}}}"
    ),
    "postgresql.external.": (
        "postgresql: {enabled: false, auth: {password: a}, external: {host: a.example}}"
    ),
    "networkPolicy.outside": "smtp: {host: a.example}",
    "monitoring.serviceMonitor.": "monitoring: {serviceMonitor: {enabled: true}}",
    "monitoring.podMonitor.": "monitoring: {podMonitor: {enabled: true}}",
    "monitoring.redisExporter.": "monitoring: {redisExporter: {enabled: true}}",
    "networkPolicy.exporterFrom": "monitoring: {redisExporter: {enabled: true}}",
    "monitoring.prometheusRule.": "monitoring: {prometheusRule: {enabled: true}}",
    "monitoring.dashboards.": "monitoring: {dashboards: {enabled: true}}",
    "devServices.image": "devServices: {enabled: true}",
    "devServices.resources": "devServices: {enabled: true}",
}
# Another value than the default, where one cannot be made from its type.
OTHER: dict[str, Any] = {
    "podDefaults": {"labels": {"team": "a"}},
    "image.pullPolicy": "Always",
    "log.level": "DEBUG",
    "log.format": "console",
    "web.service.type": "NodePort",
    "autoscaling.engine": "hpa",
    "autoscaling.keda.trigger": "prometheus",
    "autoscaling.keda.prometheusAddress": "http://b",
    "smtp.security": "tls",
    "smtp.notificationUrl": "https://b.example",
    "payment.url": "https://b.example:8443",
    "flower.signIn": "b:c",
    "flower.prefix": "/b",
    "files.store": "volume",
    "files.volume.accessMode": "ReadWriteOnce",
    "files.s3.endpoint": "https://b.example:9000",
    "cache.backend": "simple",
    "cache.local.size": 0,
    "cache.local.policy": "random",
    "networkPolicy.outside": ["10.0.0.0/8"],
    "workers": {"image": {"enabled": False}},
    "redis.auth.passwords": {"web": "b"},
    "redis.auth.existingSecretKeys": {"web": "b"},
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}],
    "tests.mailTo": "b@example.com",
}
BY_LAST_PART: dict[str, Any] = {
    "digest": f"sha256:{'0' * 64}",
    "size": "3Gi",
    "tmpSize": "3Gi",
    "resources": {"limits": {"memory": "3Gi"}},
    "pod": {"priorityClassName": "b"},
    "extraEnv": [{"name": "B", "value": "c"}],
    "needs": ["mail", "payment"],
    "hosts": ["b.example"],
    "hostnames": ["b.example"],
    "paths": ["/b"],
    "parentRefs": [{"name": "b"}],
    "tls": [{"secretName": "b", "hosts": ["b.example"]}],
    "imagePullSecrets": [{"name": "b"}],
    "webFrom": [{"podSelector": {}}],
    "flowerFrom": [{"podSelector": {}}],
    "exporterFrom": [{"podSelector": {}}],
    "interval": "7s",
}
# Maps of which other maps take over what they say: their values are tried where they are used.
WORKER = "email"


README = chart.readme()
# Those that are given one by one, as opposed to the maps they are in.
VALUES = [it for it in chart.values() if f"| `{it.name}` |" in README]


def _before(name: str) -> str:
    found = [text for start, text in BEFORE.items() if name.startswith(start)]
    # The longest beginning, which is the most particular.
    starts = [start for start in BEFORE if name.startswith(start)]
    return BEFORE[max(starts, key=len)] if found else "{}"


def _other(value: chart.Value) -> Any:
    last = value.path[-1]
    if value.name in OTHER:
        return OTHER[value.name]
    if last in BY_LAST_PART and not (last == "tls" and isinstance(value.default, dict)):
        return BY_LAST_PART[last]
    if isinstance(value.default, bool):
        return not value.default
    if isinstance(value.default, int):
        return value.default + 1
    if isinstance(value.default, str):
        return "other"
    if isinstance(value.default, dict):
        return {"other": "text"}
    return [{"name": "other"}]


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _over(one: Any, other: Any) -> Any:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    return {
        key: _over(one.get(key), other[key]) if key in other else one[key]
        for key in {**one, **other}
    }


def _render(values: dict[str, Any]) -> str:
    return _rendered(yaml.safe_dump(_over(yaml.safe_load(GIVEN), values)))


@cache
def _rendered(text: str) -> str:
    return run("template", "penstock", chart.CHART, "--values", "-", stdin=text)


@pytest.mark.parametrize("value", VALUES, ids=lambda it: it.name)
def test_a_value_does_something(value: chart.Value) -> None:
    before = yaml.safe_load(_before(value.name)) or {}
    # An entry of workers says it for itself, and would hide the default.
    said = ("needs", "softLimit", "hardLimit", "softShutdown", "grace")
    if value.path[0] == "workerDefaults" and value.path[-1] in said:
        before = _over(before, {"workers": {WORKER: {value.path[-1]: None}}})
    after = _over(before, _nested(value.path, _other(value)))
    if value.path[-1] == "enabled":
        before = _over(before, _nested(value.path, value.default))
        after = _over(before, _nested(value.path, not value.default))
        # Where a server is not run here it must be somewhere.
        if value.path[0] in ("redis", "postgresql") and value.default:
            after = _over(after, _nested((*value.path[:-1], "external", "host"), "a.example"))
    assert _render(before) != _render(after)


SCHEMA = Draft7Validator(chart.schema())


def _faults(values: dict[str, Any]) -> list[str]:
    """Return what the schema refuses; that Helm goes by it, the bad values below show."""
    return [error.message for error in SCHEMA.iter_errors(values)]


def _is_closed(path: tuple[str, ...]) -> bool:
    node: Any = SCHEMA.schema
    for key in path:
        node = node.get("properties", {}).get(key) or node.get("additionalProperties") or {}
        if not isinstance(node, dict):
            return False
    return node.get("additionalProperties") is False


# Maps of which the chart knows the keys, as opposed to annotations, quantities and the like.
CLOSED = [it for it in chart.values() if isinstance(it.default, dict) and _is_closed(it.path)]


@pytest.mark.parametrize("value", CLOSED, ids=lambda it: it.name)
def test_a_key_that_is_not_there_is_refused_at_every_level(value: chart.Value) -> None:
    faults = _faults(_nested(value.path, {"unknownKey": "x"}))
    assert any("unknownKey" in fault for fault in faults), faults


WRONG: dict[type, Any] = {bool: "yes", int: "many", float: "many", str: [], list: "text", dict: 7}


@pytest.mark.parametrize("value", VALUES, ids=lambda it: it.name)
def test_a_value_of_another_type_is_refused(value: chart.Value) -> None:
    assert _faults(_nested(value.path, WRONG[type(value.default)]))


# What is wrong, and the key that the answer must name.
BAD = [
    ("web: {replica: 3}", "replica"),
    ("web: {replicas: three}", "web.replicas"),
    ("web: {replicas: -1}", "web.replicas"),
    ("workers: {email: {grase: 90}}", "grase"),
    ("workers: {email: {grace: 80}}", "workers.email.grace"),
    ("workers: {email: {softShutdown: 60}}", "workers.email.softShutdown"),
    ("workers: {email: {hardLimit: 50}}", "workers.email.softLimit"),
    ("workers: {report: {grace: 900}}", "workers.report.grace"),
    ("workers: {email: {needs: [mails]}}", "workers.email.needs"),
    ("workers: {email: {autoscaling: {minReplicas: 11}}}", "workers.email.autoscaling.minReplicas"),
    (
        "workers: {email: {autoscaling: {maxReplicas: 1}}}",
        "workers.email.autoscaling.fallbackReplicas",
    ),
    ("workers: {web: {}}", "workers.web"),
    ("workers: {broker: {}}", "workers.broker"),
    ("workers: {Email: {}}", "Email"),
    ("workers: {a-name-that-is-too-long: {}}", "a-name-that-is-too-long"),
    ("workers: {video: {}}", "workers.video"),
    ("web: {grace: 30}", "web.grace"),
    ("web: {gracefulTimeout: 35}", "web.grace"),
    ("web: {preStopSeconds: 0}", "web.preStopSeconds"),
    ("web: {autoscaling: {enabled: true, minReplicas: 11}}", "web.autoscaling.minReplicas"),
    ("web: {service: {port: 70000}}", "web.service.port"),
    ("web: {image: {digest: latest}}", "web.image.digest"),
    ("image: {pullPolicy: Sometimes}", "image.pullPolicy"),
    ("image: {tag: 1.0}", "image.tag"),
    ("ingress: {enabled: true}", "ingress.hosts"),
    ("gateway: {enabled: true}", "gateway.parentRefs"),
    ("flower: {ingress: {enabled: true, hosts: [a.example]}}", "flower.ingress.enabled"),
    ("flower: {gateway: {enabled: true, parentRefs: [{name: a}]}}", "flower.gateway.enabled"),
    (
        "flower: {enabled: false, signIn: 'a:b', ingress: {enabled: true, hosts: [a.example]}}",
        "flower.ingress.enabled",
    ),
    ("flower: {signIn: admin}", "flower.signIn"),
    ("flower: {prefix: flower}", "flower.prefix"),
    ("autoscaling: {engine: kedda}", "autoscaling.engine"),
    (
        "autoscaling: {engine: keda, keda: {trigger: prometheus}}",
        "autoscaling.keda.prometheusAddress",
    ),
    (
        "autoscaling: {keda: {prometheusAddress: prometheus:9090}}",
        "autoscaling.keda.prometheusAddress",
    ),
    ("redis: {broker: {enabled: false}}", "redis.broker.external.host"),
    ("redis: {results: {enabled: false, external: {host: ''}}}", "redis.results.external.host"),
    ("redis: {broker: {external: {tls: true}}}", "redis.broker.external.tls"),
    (
        "redis: {auth: {existingSecret: a, existingSecretKeys: {web: ''}}}",
        "redis.auth.existingSecretKeys.web",
    ),
    ("redis: {queue: {}}", "queue"),
    ("postgresql: {enabled: false}", "postgresql.external.host"),
    ("postgresql: {enabled: false, external: {host: a.example}}", "postgresql.auth"),
    ("files: {store: s3}", "files.s3.bucket"),
    ("files: {store: s3, s3: {bucket: a, accessKeyId: a}}", "files.s3.secretAccessKey"),
    ("files: {store: s3, s3: {bucket: a, existingSecret: a}}", "files.s3.accessKeyId"),
    ("files: {store: nfs}", "files.store"),
    ("files: {store: volume}\npersistence: {enabled: false}", "files.store"),
    ("cache: {backend: null-cache}", "cache.backend"),
    ("cache: {local: {policy: fifo}}", "cache.local.policy"),
    ("api: {operator: {existingSecret: a, existingSecretKeys: {key: ''}}}", "api.operator"),
    ("workers: {redis: {}}", "workers.redis"),
    ("fullnameOverride: 1-penstock", "fullnameOverride"),
    ("postgresql: {persistence: {size: ten}}", "postgresql.persistence.size"),
    ("smtp: {port: 0}", "smtp.port"),
    ("smtp: {security: ssl}", "smtp.security"),
    ("payment: {url: payments.example.com}", "payment.url"),
    ("devServices: {enabled: true}\nsmtp: {host: a.example}", "devServices.enabled"),
    ("networkPolicy: {outside: [10.0.0.0]}", "networkPolicy.outside"),
    ("extraEnv: {A: b}", "extraEnv"),
    ("waitSeconds: 1", "waitSeconds"),
]


@pytest.mark.parametrize(("values", "key"), BAD)
def test_bad_values_are_refused_with_the_key_that_is_wrong(values: str, key: str) -> None:
    with pytest.raises(RefusedError) as refused:
        template(SETS["minimal"], text=values)
    said = [line for line in str(refused.value).splitlines() if key in line]
    assert said, str(refused.value)


def test_a_secret_of_a_cluster_is_looked_up_before_one_is_made() -> None:
    """That an upgrade keeps it needs a cluster; here, that it is asked for by its name."""
    text = (chart.CHART / "templates" / "secret.yaml").read_text()
    assert 'lookup "v1" "Secret" .Release.Namespace $name' in text
    made = Rendered(template(SETS["minimal"])).all("Secret")
    assert [it["metadata"]["name"] for it in made] == ["penstock"]
    assert made[0]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
