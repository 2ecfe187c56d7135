"""The chart's pods on a Docker engine: what a kubelet makes of a manifest, as near as one can come.

Each container is started with exactly the manifest's command, environment, user, files with their
owners and modes, capabilities, read-only root and memory; containers that come first run first;
probes are run with their delays, periods and thresholds; a pod that ends gets its preStop and its
grace. What this is not: there is no API server, no admission, no CNI, no NetworkPolicy, and a
Service is a name of its pods, whether they are ready or not.
"""

import io
import json
import subprocess
import tarfile
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

import requests

from helm.chart import Manifest, Rendered, part_of, pod_of

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
# Seconds until every node knows that a pod which ends is no endpoint of its Service any more.
ENDPOINT_DELAY = 1.0
# Has tar, and is there anyway.
TOOLS = "redis:8.0"


class PodFailedError(Exception):
    """A pod did not do what it was to do."""


def docker(*words: str, stdin: bytes | None = None, check: bool = True) -> str:
    """Run docker and return what it printed."""
    done = subprocess.run(["docker", *words], input=stdin, capture_output=True, check=False)
    if check and done.returncode:
        raise PodFailedError(f"docker {' '.join(words[:12])}: {done.stderr.decode()[-2000:]}")
    return done.stdout.decode().strip()


@dataclass
class Pod:
    """One pod: its containers, and how it is."""

    name: str
    part: str
    pod: Manifest
    cluster: "Cluster"
    ready: Event = field(default_factory=Event)
    # Told to end, so that its end is no fault.
    ending: Event = field(default_factory=Event)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    ended_at: float = 0.0
    address: str = ""

    @property
    def spec(self) -> Manifest:
        """Its spec."""
        spec: Manifest = self.pod["spec"]
        return spec

    @property
    def container(self) -> Manifest:
        """The container that it is there for."""
        return dict(self.spec["containers"][0])

    @property
    def beside(self) -> dict[str, Manifest]:
        """The containers that run beside it, in its network, by the names they have here."""
        return {f"{self.name}-{it['name']}": it for it in self.spec["containers"][1:]}

    def run(self) -> None:
        """Start it: what comes first, then its container, then its probes until it ends."""
        began = monotonic()
        try:
            self._mount()
            for container in self.spec.get("initContainers", []):
                self._first(container)
            docker(*self._words(self.container, self.name, "--detach"))
            for name, container in self.beside.items():
                docker(*self._words(container, name, "--detach"))
            self.address = self._inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
            self._probe(began)
        except PodFailedError as error:
            self.faults.append(str(error))

    def _first(self, container: Manifest) -> None:
        name = f"{self.name}-{container['name']}"
        done = subprocess.run(
            ["docker", *self._words(container, name)], capture_output=True, text=True, check=False
        )
        docker("rm", "--force", name, check=False)
        if done.returncode:
            raise PodFailedError(f"{name}: {done.stdout[-500:]}{done.stderr[-500:]}")

    def wait(self) -> int:
        """Return the exit code of a pod that ends by itself."""
        return int(docker("wait", self.name))

    def logs(self) -> str:
        """Return what its container said."""
        done = subprocess.run(
            ["docker", "logs", "--tail", "40", self.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout

    def end(self) -> None:
        """End it as a kubelet does: preStop, SIGTERM, and SIGKILL when its grace is over."""
        self.ending.set()
        grace = float(self.spec["terminationGracePeriodSeconds"])
        began = monotonic()
        hook = self.container.get("lifecycle", {}).get("preStop", {})
        if "sleep" in hook:
            sleep(hook["sleep"]["seconds"])
        elif "exec" in hook:
            docker("exec", self.name, *hook["exec"]["command"], check=False)
        left = max(2, int(grace - (monotonic() - began)))
        docker("stop", "--timeout", str(left), self.name)
        code = self._inspect("{{.State.ExitCode}}")
        if code == "137":
            self.faults.append(f"{self.name} was killed after its grace of {grace:.0f} s")
        self.remove()

    def remove(self) -> None:
        """Take its container and its volumes away."""
        self.ending.set()
        docker("rm", "--force", "--volumes", *self.beside, self.name, check=False)
        for volume in self.spec.get("volumes", []):
            docker("volume", "rm", "--force", self._volume(volume["name"]), check=False)

    # What it is made of

    def _volume(self, name: str) -> str:
        return f"{self.name}.{name}"

    def _mount(self) -> None:
        """Make its volumes, with what is to be in them; owners and modes are those of a kubelet."""
        group = self.spec["securityContext"]["fsGroup"]
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for volume in self.spec.get("volumes", []):
                kind = "emptyDir" if "emptyDir" in volume else "files"
                _add(archive, volume["name"], group, 0o2777 if kind == "emptyDir" else 0o2755)
                for path, (content, mode) in self.cluster.files(volume).items():
                    _add(archive, f"{volume['name']}/{path}", group, mode, content)
        names = [volume["name"] for volume in self.spec.get("volumes", [])]
        mounts = [
            word
            for name in names
            for word in ("--mount", f"type=volume,src={self._volume(name)},dst=/v/{name}")
        ]
        words = ["run", "--rm", "--interactive", "--user", "0", "--entrypoint", "tar"]
        unpack = ["-x", "-p", "--same-owner", "-C", "/v"]
        docker(*words, *mounts, TOOLS, *unpack, stdin=stream.getvalue())

    def _words(self, container: Manifest, name: str, *options: str) -> list[str]:
        """Return the `docker run` of a container."""
        context = {**self.spec["securityContext"], **container["securityContext"]}
        words = ["run", "--name", name, *options]
        if name in self.beside:
            words += ["--network", f"container:{self.name}"]
        else:
            words += ["--network", self.cluster.network, "--hostname", self.name[:63]]
        if container is not None and container["name"] == self.container["name"]:
            aliases = self.cluster.services.get(self.part, [])
            words += [word for alias in aliases for word in ("--network-alias", alias)]
        words += ["--user", f"{context['runAsUser']}:{context['runAsGroup']}"]
        words += ["--group-add", str(context["fsGroup"])]
        if context["readOnlyRootFilesystem"]:
            words.append("--read-only")
        if not context["allowPrivilegeEscalation"]:
            words += ["--security-opt", "no-new-privileges"]
        words += [f"--cap-drop={name}" for name in context["capabilities"]["drop"]]
        words += ["--memory", str(_bytes(container["resources"]["limits"]["memory"]))]
        # The sandbox's process is the first one then.
        if self.spec.get("shareProcessNamespace"):
            words.append("--init")
        for entry in container.get("env", []):
            words += ["--env", f"{entry['name']}={self.cluster.value(entry)}"]
        for mount in container.get("volumeMounts", []):
            what = f"type=volume,src={self._volume(mount['name'])},dst={mount['mountPath']}"
            words += [
                "--mount",
                what + ",volume-nocopy" + (",readonly" if mount.get("readOnly") else ""),
            ]
        command = list(container.get("command", []))
        if command:
            words += ["--entrypoint", command.pop(0)]
        return [*words, container["image"], *command, *container.get("args", [])]

    # How it is

    def _inspect(self, what: str) -> str:
        return docker("inspect", "--format", what, self.name)

    def _alive(self) -> bool:
        return docker("inspect", "--format", "{{.State.Running}}", self.name, check=False) == "true"

    def _probe(self, began: float) -> None:
        container = self.container
        if not {"startupProbe", "readinessProbe"} & container.keys():
            return
        if not self._until(container.get("startupProbe")):
            return
        if not self._until(container.get("readinessProbe"), endless=True):
            return
        self.seconds = monotonic() - began
        self.ready.set()
        probe, failed = container["livenessProbe"], 0
        while not self.ending.wait(probe.get("periodSeconds", 10)):
            if not self._alive() and not self.ending.is_set():
                raise PodFailedError(f"{self.name} ended by itself: {self.logs()[-1500:]}")
            failed = 0 if self._asked(probe) else failed + 1
            if failed >= probe.get("failureThreshold", 3) and not self.ending.is_set():
                raise PodFailedError(f"{self.name} would be killed by its liveness probe")

    def _until(self, probe: Manifest | None, *, endless: bool = False) -> bool:
        """Ask until the answer is yes; PodFailedError where a kubelet would start it anew."""
        if probe is None:
            return True
        self.ending.wait(probe.get("initialDelaySeconds", 0))
        failures = 0
        while not self.ending.is_set():
            if not self._alive():
                raise PodFailedError(f"{self.name} ended by itself: {self.logs()[-1500:]}")
            if self._asked(probe):
                return True
            failures += 1
            if not endless and failures >= probe["failureThreshold"]:
                raise PodFailedError(f"{self.name} did not begin: {self.logs()[-1500:]}")
            self.ending.wait(probe.get("periodSeconds", 10))
        return False

    def _asked(self, probe: Manifest) -> bool:
        limit = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            words = ["docker", "exec", self.name, *probe["exec"]["command"]]
            try:
                done = subprocess.run(words, capture_output=True, timeout=limit, check=False)
            except subprocess.TimeoutExpired:
                return False
            return done.returncode == 0
        at = probe.get("httpGet") or probe["tcpSocket"]
        port = next(
            (it["containerPort"] for it in self.container["ports"] if it["name"] == at["port"]),
            at["port"],
        )
        if "tcpSocket" in probe:
            connect = f"exec 3<>/dev/tcp/{self.address}/{port}"
            done = subprocess.run(
                ["timeout", str(limit), "bash", "-c", connect], capture_output=True, check=False
            )
            return done.returncode == 0
        try:
            url = f"http://{self.address}:{port}{at['path']}"
            return requests.get(url, timeout=limit).status_code < 400
        except requests.RequestException:
            return False


def _add(
    archive: tarfile.TarFile, path: str, group: int, mode: int, content: bytes | None = None
) -> None:
    entry = tarfile.TarInfo(path)
    entry.uid, entry.gid, entry.mode = 0, group, mode
    entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    entry.size = len(content or b"")
    archive.addfile(entry, io.BytesIO(content or b""))


def _bytes(quantity: str) -> int:
    return int(float(quantity[:-2]) * UNITS[quantity[-2:]])


@dataclass
class Cluster:
    """What a release runs, on a network of its own."""

    network: str = field(default_factory=lambda: f"penstock-chart-{token_hex(4)}")
    pods: list[Pod] = field(default_factory=list)
    gone: list[Pod] = field(default_factory=list)
    rendered: Rendered = field(default_factory=lambda: Rendered([]))
    services: dict[str, list[str]] = field(default_factory=dict)
    _counter: int = 0

    def files(self, volume: Manifest) -> dict[str, tuple[bytes, int]]:
        """Return the files of a volume, with their modes."""
        if "configMap" in volume:
            data = self._named("ConfigMap", volume["configMap"]["name"])["data"]
            mode = volume["configMap"].get("defaultMode", 0o644)
            return {name: (text.encode(), mode) for name, text in data.items()}
        found = {}
        for source in volume.get("projected", {}).get("sources", []):
            secret = self._named("Secret", source["secret"]["name"])
            for item in source["secret"]["items"]:
                content = b64decode(secret["data"][item["key"]])
                found[item["path"]] = (content, volume["projected"]["defaultMode"])
        return found

    def value(self, variable: Manifest) -> str:
        """Return the value of a variable, which may be in a Secret."""
        if "valueFrom" not in variable:
            return str(variable["value"])
        at = variable["valueFrom"]["secretKeyRef"]
        return b64decode(self._named("Secret", at["name"])["data"][at["key"]]).decode()

    def _named(self, kind: str, name: str) -> Manifest:
        return next(it for it in self.rendered.all(kind) if it["metadata"]["name"] == name)

    def apply(self, rendered: Rendered, limit: float = 180, servers_after: float = 0) -> None:
        """Bring it to what was rendered, as the controllers do; returns when all are ready.

        A part whose pod is unchanged is left alone. One that is rolled out gets its new pod before
        the old one ends, one that is recreated after it. `servers_after` is the seconds by which
        the servers come later than what needs them, as where their image has yet to be pulled.
        """
        before = dict(self.rendered.pods())
        self.rendered = rendered
        for service in rendered.all("Service"):
            names = self.services.setdefault(part_of(service), [])
            if service["metadata"]["name"] not in names:
                names.append(service["metadata"]["name"])
        old, new = [], []
        kinds = ("Deployment", "Job", "StatefulSet")
        for manifest in sorted(rendered.all(*kinds), key=lambda it: kinds.index(it["kind"])):
            if manifest["kind"] == "StatefulSet":
                sleep(servers_after)
                servers_after = 0
            part = part_of(manifest)
            if before.get(part) == pod_of(manifest):
                continue
            mine = [pod for pod in self.pods if pod.part == part]
            if manifest["spec"].get("strategy", {}).get("type") == "Recreate":
                self._end(mine)
            else:
                old += [pod for pod in mine if not pod.spec.get("restartPolicy")]
            count = manifest["spec"].get("replicas", 1)
            new += [self._start(manifest) for _ in range(count)]
        deadline = monotonic() + limit
        for pod in new:
            self._await(pod, deadline)
        self._end(old)
        self._healthy()

    def _start(self, manifest: Manifest) -> Pod:
        self._counter += 1
        name = f"{self.network}-{manifest['metadata']['name'][-30:]}-{self._counter}"
        pod = Pod(name, part_of(manifest), pod_of(manifest), self)
        self.pods.append(pod)
        Thread(target=pod.run, daemon=True).start()
        return pod

    def _await(self, pod: Pod, deadline: float) -> None:
        once = pod.spec.get("restartPolicy") == "Never"
        while not pod.ready.wait(0.2):
            self._healthy()
            if once and pod.address and not pod._alive():
                if code := pod.wait():
                    raise PodFailedError(f"{pod.name} ended with {code}: {pod.logs()}")
                return
            if monotonic() > deadline:
                raise PodFailedError(f"{pod.name} is not ready: {pod.logs()}")

    def _healthy(self) -> None:
        if faults := [fault for pod in (*self.pods, *self.gone) for fault in pod.faults]:
            raise PodFailedError("\n".join(faults))

    def _end(self, pods: list[Pod]) -> None:
        threads = [Thread(target=pod.end) for pod in pods]
        for pod in pods:
            pod.ended_at = monotonic()
            self.gone.append(pod)
            self.pods.remove(pod)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def endpoints(self, part: str) -> list[Pod]:
        """Return the pods that get a Service's connections: those that are ready, and for a moment
        those that have begun to end."""
        there = [pod for pod in list(self.pods) if pod.part == part and pod.ready.is_set()]
        late = monotonic() - ENDPOINT_DELAY
        return there + [it for it in list(self.gone) if it.part == part and it.ended_at > late]

    def test(self, rendered: Rendered) -> str:
        """Run the release's tests, as `helm test` does; return what they said."""
        [manifest] = rendered.all("Pod")
        pod = self._start(manifest)
        while not pod.address:
            self._healthy()
            sleep(0.1)
        code = pod.wait()
        said = pod.logs()
        if code:
            raise PodFailedError(f"the test ended with {code}: {said}")
        return said

    def uninstall(self) -> None:
        """End all pods at once, each with its grace, whichever needs which."""
        self._end(list(self.pods))
        self._healthy()

    def close(self) -> None:
        """Take everything away."""
        threads = [Thread(target=pod.remove) for pod in (*self.pods, *self.gone)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        docker("network", "rm", self.network, check=False)

    def left(self) -> list[str]:
        """Return the containers and volumes that are there by its name."""
        found = []
        for words in (("ps", "--all", "--format", "{{.Names}}"), ("volume", "ls", "--quiet")):
            found += docker(*words, "--filter", f"name={self.network}").split()
        return found


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Yield an empty one, and leave nothing of it."""
    made = Cluster()
    docker("network", "create", made.network)
    try:
        yield made
    finally:
        made.close()


def inspected(pod: Pod) -> dict[str, Any]:
    """Return what the engine says of a pod's container."""
    return dict(json.loads(docker("inspect", pod.name))[0])
