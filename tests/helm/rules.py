"""What is asked of every render: each function returns what is wrong, one line a fault.

They are run on the chart as it is, where they must find nothing, and on renders that were damaged,
where they must find it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from helm.chart import PODS, Manifest, Rendered, containers, main_container, part_of, pod_of
from penstock.catalogue import BY_QUEUE

# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
    *("projected", "secret"),
}
HOST = ("hostNetwork", "hostPID", "hostIPC")
SECCOMP = ("RuntimeDefault", "Localhost")
SECONDS_TO_GIVE_BACK = 10


def restricted(rendered: Rendered) -> list[str]:
    """Return what the restricted Pod Security Standard, version latest, would refuse."""
    return [f"{part}: {fault}" for part, pod in rendered.pods() for fault in _restricted(pod)]


def _restricted(pod: Manifest) -> Iterator[str]:
    spec = pod["spec"]
    inherited = spec.get("securityContext", {})
    yield from (f"{key} is set" for key in HOST if spec.get(key))
    for volume in spec.get("volumes", []):
        kinds = volume.keys() - {"name"}
        if not kinds <= VOLUMES:
            yield f"the volume {volume['name']} is of {', '.join(kinds)}"
    if inherited.get("sysctls"):
        yield "sysctls are set"
    for container in containers(pod):
        name = container["name"]
        own = container.get("securityContext", {})
        whole = {**inherited, **own}
        if own.get("privileged"):
            yield f"{name} is privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may escalate its privileges"
        capabilities = own.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {
            "NET_BIND_SERVICE"
        }:
            yield f"{name} has capabilities"
        if whole.get("runAsNonRoot") is not True or whole.get("runAsUser") == 0:
            yield f"{name} may run as root"
        if whole.get("seccompProfile", {}).get("type") not in SECCOMP:
            yield f"{name} has no seccomp profile"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name} takes a port of the host"


def hardened(rendered: Rendered) -> list[str]:
    """Return what is asked beyond the standard."""
    return [
        f"{part_of(manifest)}: {fault}"
        for manifest in rendered.all(*PODS)
        for fault in _hardened(pod_of(manifest), manifest["spec"].get("volumeClaimTemplates", []))
    ]


def _hardened(pod: Manifest, claims: list[Manifest]) -> Iterator[str]:
    spec = pod["spec"]
    if spec.get("automountServiceAccountToken") is not False:
        yield "gets a token of its service account"
    if spec.get("enableServiceLinks") is not False:
        yield "gets variables for every Service"
    if "fsGroup" not in spec.get("securityContext", {}):
        yield "cannot read its secrets"
    for container in containers(pod):
        name = container["name"]
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{name} can write to its own files"
        resources = container.get("resources", {})
        if not resources.get("limits", {}).get("memory"):
            yield f"{name} has no limit of memory"
        if not resources.get("requests", {}).get("cpu"):
            yield f"{name} asks for no processor time"
    mounted = [
        (it["name"], mount["name"])
        for it in containers(pod)
        for mount in it.get("volumeMounts", [])
    ]
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in claims}
    yield from (
        f"{name} mounts {it}, which is no volume" for name, it in mounted if it not in volumes
    )
    yield from (f"nobody mounts {it}" for it in volumes - {name for _, name in mounted})


def probed(rendered: Rendered) -> list[str]:
    """Return the servers and workers that nobody would notice to hang, or to begin."""
    faults = []
    for manifest in rendered.all("Deployment", "StatefulSet"):
        container = main_container(pod_of(manifest))
        wanted = {"readinessProbe", "livenessProbe"}
        if part_of(manifest) not in ("mail", "provider"):
            wanted |= {"startupProbe"}
        faults += [f"{part_of(manifest)}: has no {it}" for it in wanted - container.keys()]
    return faults


def graceful(rendered: Rendered) -> list[str]:
    """Return where a pod would be killed before it has ended its work."""
    faults = []
    for name, queue in BY_QUEUE.items():
        if not rendered.has("Deployment", name):
            continue
        pod = pod_of(rendered.one("Deployment", name))
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        if grace != queue.grace:
            faults.append(f"{name}: has {grace} s to end, and the catalogue says {queue.grace}")
        env = {it["name"]: it.get("value") for it in main_container(pod)["env"]}
        drain = int(env.get("PENSTOCK_GRACE") or 0)
        longest = max(job.hard_limit for job in queue.jobs)
        if not longest < drain <= grace - SECONDS_TO_GIVE_BACK:
            faults.append(f"{name}: drains for {drain} s, between {longest} and {grace}")
    pod = pod_of(rendered.one("Deployment", "web"))
    container = main_container(pod)
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    options = next(it["value"] for it in container["env"] if it["name"] == "GUNICORN_CMD_ARGS")
    drain = int(options.removeprefix("--graceful-timeout="))
    if sleep < 1:
        faults.append("web: gets requests while it ends")
    if not sleep + drain < pod["spec"].get("terminationGracePeriodSeconds", 30):
        faults.append(f"web: {sleep} s and {drain} s do not fit into its grace")
    return faults


def unreferenced(rendered: Rendered) -> list[str]:
    """Return the Secrets' keys, ConfigMaps, claims and Services that pods name and nobody makes."""
    faults = []
    made = {(it["kind"], it["metadata"]["name"]): it for it in rendered.all()}
    release = rendered.one("Deployment", "web")["metadata"]["name"].removesuffix("-web")
    for part, pod in rendered.pods():
        for volume in pod["spec"].get("volumes", []):
            faults += [f"{part}: {fault}" for fault in _unmade(volume, made, release)]
        for container in containers(pod):
            for variable in container.get("env", []):
                if found := variable.get("valueFrom", {}).get("secretKeyRef"):
                    secret = {"secret": {"name": found["name"], "items": [{"key": found["key"]}]}}
                    volume = {"projected": {"sources": [secret]}}
                    faults += [f"{part}: {fault}" for fault in _unmade(volume, made, release)]
    return faults


def _unmade(volume: Manifest, made: dict[tuple[str, str], Manifest], release: str) -> Iterator[str]:
    wanted: list[tuple[str, str, Iterable[str]]] = []
    for source in volume.get("projected", {}).get("sources", []):
        keys: Iterable[str] = [item["key"] for item in source["secret"]["items"]]
        wanted.append(("Secret", source["secret"]["name"], keys))
    if "configMap" in volume:
        wanted.append(("ConfigMap", volume["configMap"]["name"], ()))
    if "persistentVolumeClaim" in volume:
        wanted.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], ()))
    for kind, name, keys in wanted:
        # What has another name is brought by whoever installs.
        if not (name == release or name.startswith(f"{release}-")):
            continue
        if (kind, name) not in made:
            yield f"the {kind} {name} is not made"
        else:
            missing = set(keys) - made[kind, name].get("data", {}).keys()
            yield from (f"the {kind} {name} has no {key}" for key in missing)


def networked(rendered: Rendered) -> dict[str, Any]:
    """Return whom each part may talk to, by what is allowed on both ends; 'outside' with ports."""
    policies = {part_of(it): it["spec"] for it in rendered.all("NetworkPolicy")}
    parts = {part for part, _ in rendered.pods()}
    reaches: dict[str, Any] = {}
    for part in parts:
        if part not in policies:
            reaches[part] = {"everything"}
            continue
        found: set[str] = set()
        for rule in policies[part].get("egress", []):
            ports = {port["port"] for port in rule["ports"]}
            if "to" not in rule:
                found |= {"names"} if ports == {53} else {"everything"}
                continue
            for peer in rule["to"]:
                if "ipBlock" in peer:
                    found |= {f"outside:{port}" for port in ports}
                else:
                    labels = peer["podSelector"]["matchLabels"]
                    other = labels["app.kubernetes.io/component"]
                    if other not in policies or _lets_in(policies[other], part, ports):
                        found.add(other)
        reaches[part] = found
    return reaches


def _lets_in(policy: Manifest, part: str, ports: set[int]) -> bool:
    for rule in policy.get("ingress", []):
        if {port["port"] for port in rule["ports"]} != ports:
            continue
        if "from" not in rule:
            return True
        for peer in rule["from"]:
            labels = peer.get("podSelector", {}).get("matchLabels", {})
            if labels.get("app.kubernetes.io/component") == part:
                return True
    return False


EVERY = (restricted, hardened, probed, graceful, unreferenced)


def denied_by_default(rendered: Rendered) -> list[str]:
    """Return the pods that no policy selects in both directions."""
    closed = []
    for policy in rendered.all("NetworkPolicy"):
        if set(policy["spec"].get("policyTypes", [])) == {"Ingress", "Egress"}:
            closed.append(policy["spec"]["podSelector"]["matchLabels"].items())
    own = [policy["spec"]["podSelector"]["matchLabels"] for policy in rendered.all("NetworkPolicy")]
    faults = []
    for part, pod in rendered.pods():
        labels = pod["metadata"]["labels"].items()
        if not any(selector <= labels for selector in closed):
            faults.append(f"{part}: is open in the network")
        if not any(it.get("app.kubernetes.io/component") == part for it in own):
            faults.append(f"{part}: has no policy of its own")
    return faults
