"""The checks find damage: each takes something out of a render, and must be noticed."""

from collections.abc import Callable
from copy import deepcopy

import pytest

from helm import rules
from helm.chart import Manifest, Rendered, main_container, pod_of, rendered

pytestmark = pytest.mark.helm

Damage = Callable[[Rendered], None]


def _of(part: str, kind: str = "Deployment") -> Callable[[Rendered], Manifest]:
    return lambda it: pod_of(it.one(kind, part))


def _container_without(part: str, key: str, kind: str = "Deployment") -> Damage:
    return lambda it: main_container(_of(part, kind)(it)).pop(key)


def _security_without(part: str, key: str, kind: str = "Deployment") -> Damage:
    return lambda it: main_container(_of(part, kind)(it))["securityContext"].pop(key)


def _pod_without(part: str, key: str, kind: str = "Deployment") -> Damage:
    return lambda it: _of(part, kind)(it)["spec"].pop(key)


def _inherited_without(part: str, key: str) -> Damage:
    return lambda it: _of(part)(it)["spec"]["securityContext"].pop(key)


def _without(kind: str, part: str) -> Damage:
    return lambda it: it.manifests.remove(it.one(kind, part))


def _grace_less(part: str) -> Damage:
    def damage(it: Rendered) -> None:
        _of(part)(it)["spec"]["terminationGracePeriodSeconds"] -= 1

    return damage


def _variable(part: str, name: str, value: str) -> Damage:
    def damage(it: Rendered) -> None:
        for entry in main_container(_of(part)(it))["env"]:
            if entry["name"] == name:
                entry["value"] = value

    return damage


def _privileged(it: Rendered) -> None:
    main_container(_of("web")(it))["securityContext"]["privileged"] = True


def _host_path(it: Rendered) -> None:
    _of("web")(it)["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def _root(it: Rendered) -> None:
    _of("image")(it)["spec"]["securityContext"]["runAsUser"] = 0


def _capability(it: Rendered) -> None:
    main_container(_of("image")(it))["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]


def _init_container_unsafe(it: Rendered) -> None:
    _of("web")(it)["spec"]["initContainers"][0].pop("securityContext")


def _test_pod_unsafe(it: Rendered) -> None:
    main_container(it.one("Pod", "test")).pop("securityContext")


def _secret_without_a_key(it: Rendered) -> None:
    it.one("Secret", "secrets")["data"].pop("redis-email")


def _everything_out(it: Rendered) -> None:
    it.one("NetworkPolicy", "payment")["spec"]["egress"].append(
        {"ports": [{"port": 443, "protocol": "TCP"}]}
    )


def _web_to_mail(it: Rendered) -> None:
    opened = deepcopy(it.one("NetworkPolicy", "email")["spec"]["egress"])
    it.one("NetworkPolicy", "image")["spec"]["egress"] = opened
    let_in = it.one("NetworkPolicy", "mail")["spec"]["ingress"][0]
    peer = deepcopy(let_in["from"][0])
    peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] = "image"
    let_in["from"].append(peer)


def _network(rendered: Rendered) -> list[str]:
    from helm.test_network import INSIDE

    found = rules.networked(rendered)
    return [part for part, wanted in INSIDE.items() if found.get(part) != wanted]


RULES = (*rules.EVERY, rules.denied_by_default, _network)
DAMAGE: dict[str, Damage] = {
    **{
        f"{part} without {key}": _container_without(part, key)
        for part in ("web", "email", "scheduler", "flower")
        for key in ("startupProbe", "readinessProbe", "livenessProbe", "securityContext")
    },
    **{
        f"broker without {key}": _container_without("broker", key, "StatefulSet")
        for key in ("startupProbe", "readinessProbe", "livenessProbe", "securityContext")
    },
    **{
        f"report without {key}": _security_without("report", key)
        for key in ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities")
    },
    **{
        f"payment without {key}": _inherited_without("payment", key)
        for key in ("runAsNonRoot", "seccompProfile", "fsGroup")
    },
    "a token": _pod_without("web", "automountServiceAccountToken"),
    "service links": _pod_without("web", "enableServiceLinks"),
    "no limit": _container_without("image", "resources"),
    "no preStop": _container_without("web", "lifecycle"),
    "privileged": _privileged,
    "a path of the host": _host_path,
    "root": _root,
    "a capability": _capability,
    "an unsafe container that comes first": _init_container_unsafe,
    "an unsafe test": _test_pod_unsafe,
    "a second of grace of a worker": _grace_less("report"),
    "the grace of web": _variable("web", "GUNICORN_CMD_ARGS", "--graceful-timeout=40"),
    "the grace of the drain": _variable("email", "PENSTOCK_GRACE", "60"),
    "a drain as long as the grace": _variable("email", "PENSTOCK_GRACE", "90"),
    "a secret without a key": _secret_without_a_key,
    "no secret": _without("Secret", "secrets"),
    "no configuration": _without("ConfigMap", "broker"),
    **{f"no policy of {part}": _without("NetworkPolicy", part) for part in ("web", "broker")},
    "everything open": _everything_out,
    "mail open to image": _web_to_mail,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_noticed(name: str) -> None:
    damaged = Rendered(deepcopy(rendered("single-node").manifests))
    assert [fault for rule in RULES for fault in rule(damaged)] == []
    DAMAGE[name](damaged)
    assert [fault for rule in RULES for fault in rule(damaged)] != []


def test_a_pod_that_no_policy_closes_is_noticed() -> None:
    damaged = Rendered(deepcopy(rendered("single-node").manifests))
    _without("NetworkPolicy", "default")(damaged)
    # Each has a policy of its own as well; the one for all is for pods that extraObjects bring.
    assert rules.denied_by_default(damaged) == []
    _without("NetworkPolicy", "email")(damaged)
    assert rules.denied_by_default(damaged) != []
