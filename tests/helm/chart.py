"""The chart as Helm renders it, each set of values once."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from penstock_dev.chart import CHART

CI = CHART / "ci"
# By the name of the file: single-node-values.yaml is "single-node".
SETS = {path.name.removesuffix("-values.yaml"): path for path in sorted(CI.iterdir())}
HELM = Path(__file__).parents[2] / ".venv" / "bin" / "helm"
Manifest = dict[str, Any]
PODS = {"Pod", "Deployment", "StatefulSet", "Job"}
# So that renders can be compared: what is made by random is given.
GIVEN = """
api: {key: k}
postgresql: {auth: {password: p}}
flower: {signIn: "admin:f"}
redis:
  auth:
    passwords:
      {web: w, email: e, image: i, report: r, payment: p, scheduler: s, flower: f,
       exporter: x, operator: o}
"""


class RefusedError(Exception):
    """Helm did not render; the text is its sentence."""


def run(*words: str | Path, stdin: str = "") -> str:
    """Run helm and return what it prints; RefusedError where it does not like something."""
    done = subprocess.run(
        [HELM, *map(str, words)], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RefusedError(done.stderr)
    return done.stdout


def template(
    *values: Path, text: str = "", release: str = "penstock", namespace: str = "jobs"
) -> list[Manifest]:
    """Return what the chart renders with files of values and then `text`."""
    words = [word for path in values for word in ("--values", path)]
    said = run(
        "template", release, CHART, "--namespace", namespace, *words, *_text(text), stdin=text
    )
    # The parser in C; the other one takes seconds.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [manifest for manifest in yaml.load_all(said, Loader=loader) if manifest]


def _text(text: str) -> tuple[str, ...]:
    return ("--values", "-") if text else ()


@dataclass(frozen=True)
class Rendered:
    """The manifests of one render, and ways to find one."""

    manifests: list[Manifest] = field(hash=False)

    def all(self, *kinds: str) -> list[Manifest]:
        """Return the manifests of these kinds, or all."""
        return [it for it in self.manifests if not kinds or it["kind"] in kinds]

    def one(self, kind: str, part: str) -> Manifest:
        """Return the manifest of a kind that belongs to a part such as web."""
        found = [it for it in self.all(kind) if part_of(it) == part]
        assert len(found) == 1, f"{len(found)} x {kind} of {part}"
        return found[0]

    def has(self, kind: str, part: str) -> bool:
        """Whether there is one."""
        return any(part_of(it) == part for it in self.all(kind))

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Yield the name of the part and the pod of everything that runs as one."""
        for manifest in self.all(*PODS):
            yield part_of(manifest), pod_of(manifest)


@cache
def rendered(name: str) -> Rendered:
    """Return what the chart renders with one of the files in ci/."""
    return Rendered(template(SETS[name]))


@cache
def with_values(text: str, base: str = "minimal") -> Rendered:
    """Return what the chart renders with values over one of the files in ci/."""
    return Rendered(template(SETS[base], text=text))


def part_of(manifest: Manifest) -> str:
    """Return the part that a manifest belongs to."""
    labels = manifest["metadata"].get("labels", {})
    return str(labels.get("app.kubernetes.io/component", ""))


def pod_of(manifest: Manifest) -> Manifest:
    """Return the pod, metadata and spec, that a manifest makes."""
    if manifest["kind"] == "Pod":
        return manifest
    template: Manifest = manifest["spec"]["template"]
    return template


def containers(pod: Manifest) -> list[Manifest]:
    """Return a pod's containers, those first that run before the others."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def main_container(pod: Manifest) -> Manifest:
    """Return the container that the pod is there for."""
    first: Manifest = pod["spec"]["containers"][0]
    return first


def environment(container: Manifest) -> dict[str, str]:
    """Return the variables of a container that have plain values."""
    return {it["name"]: it.get("value", "") for it in container.get("env", [])}
