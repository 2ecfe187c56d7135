"""What the chart holds that is written elsewhere: `./task helm:docs` brings it up to date.

Values are described once, by the comments in values.yaml. The README's table and
values.schema.json follow from them; the schema also from helm/schema.yaml, which has what a default
cannot say. The configuration of Redis, its users, the alerts and the
dashboard are those of the containers, copied since Helm reads nothing outside of a chart.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from penstock_dev import redis_users
from penstock_dev.embedded import ROOT

HELM = ROOT / "helm"
CHART = HELM / "penstock"
REDIS = ROOT / "services" / "redis"
TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
# How the users of Redis are written without their passwords; users.sh puts the digests in.
DIGEST = re.compile(r"(?<= on #)[0-9a-f]{64}")


@dataclass(frozen=True)
class Value:
    """A value of the chart: where it is, what it is by default, and what values.yaml says of it."""

    path: tuple[str, ...]
    default: Any
    text: str

    @property
    def name(self) -> str:
        """How it is given to `helm --set`."""
        return ".".join(self.path)


def files() -> dict[Path, str]:
    """Return what each file of the chart that follows from others must hold."""
    passwords = dict.fromkeys(redis_users.USERS, "")
    made = {
        CHART / "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        CHART / "README.md": readme(),
    }
    for role in redis_users.ROLES:
        rules = DIGEST.sub("DIGEST", redis_users.acl_file(role, passwords))
        made[CHART / "files" / "acl" / f"{role}.acl"] = rules
        configuration = (REDIS / f"{role}.conf").read_text()
        made[CHART / "files" / "redis" / f"{role}.conf"] = configuration
    deploy = ROOT / "deploy"
    made[CHART / "files" / "rules.yml"] = (deploy / "prometheus" / "rules.yml").read_text()
    for path in (deploy / "grafana" / "dashboards").glob("*.json"):
        made[CHART / "files" / "dashboards" / path.name] = path.read_text()
    return made


def write() -> list[Path]:
    """Bring them up to date; return those that were not."""
    made = files()
    old = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[path])
    return old


@cache
def values() -> list[Value]:
    """Return every value of values.yaml, maps before what they hold."""
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    found = {value.path: value for value in _walk(root, (), text.splitlines())}
    return list(found.values())


def _walk(node: yaml.MappingNode, path: tuple[str, ...], lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            yield from _walk(value, path, lines)
            continue
        at = (*path, key.value)
        yield Value(at, _default(value), _comment(lines, key.start_mark.line))
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _walk(value, at, lines)


def _default(node: yaml.Node) -> Any:
    return yaml.SafeLoader("").construct_object(node, deep=True)


def _comment(lines: list[str], line: int) -> str:
    indent = len(lines[line]) - len(lines[line].lstrip())
    said: list[str] = []
    for above in reversed(lines[:line]):
        if not above.startswith(" " * indent + "#") or set(above.strip()) <= {"#", "-", " "}:
            break
        said.insert(0, above.strip().lstrip("# "))
    return " ".join(said)


def schema() -> dict[str, Any]:
    """Return the JSON schema of the values: no key that is not there, none of another type."""
    rules = yaml.safe_load((HELM / "schema.yaml").read_text())
    root = _object((), rules)
    # Of charts around this one, and for anchors of YAML.
    root["properties"]["global"] = {"type": "object", "description": "Of charts around this one."}
    root["patternProperties"] = {"^x-": {}}
    worker = {**root["properties"]["workerDefaults"]}
    worker["description"] = "A worker; what it does not say, workerDefaults says."
    root["properties"]["workers"] |= {
        "propertyNames": {"pattern": "^[a-z]([a-z0-9-]{0,13}[a-z0-9])?$"},
        "additionalProperties": worker,
    }
    root["properties"]["workers"].pop("properties")
    for name in rules["external"]:
        at = root
        for key in name.split("."):
            at = at["properties"][key]
        at["if"] = {"properties": {"enabled": {"const": False}}, "required": ["enabled"]}
        at["then"] = {"properties": {"external": {"properties": {"host": {"minLength": 1}}}}}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Penstock", **root}


def _object(path: tuple[str, ...], rules: dict[str, Any]) -> dict[str, Any]:
    children = [value for value in values() if value.path[:-1] == path]
    properties = {value.path[-1]: _described(value, rules) for value in children}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _described(value: Value, rules: dict[str, Any]) -> dict[str, Any]:
    rule = _rule(value, rules)
    inside = isinstance(value.default, dict) and "type" not in rule
    made = _object(value.path, rules) if inside else {"type": TYPES[type(value.default)]}
    return {**({"description": value.text} if value.text else {}), **made, **rule}


def _rule(value: Value, rules: dict[str, Any]) -> dict[str, Any]:
    """Return what helm/schema.yaml says of a value; of several lines the last holds."""
    found: dict[str, Any] = {}
    for pattern, rule in rules["values"].items():
        if fnmatchcase(value.name, pattern):
            found = {**rules["fragments"].get(rule.get("is"), {}), **rule}
    found.pop("is", None)
    return found


def readme() -> str:
    """Return the chart's README: what stands above the table, and the table of all values."""
    head = (HELM / "README.head.md").read_text().rstrip()
    rules = yaml.safe_load((HELM / "schema.yaml").read_text())
    rows = []
    # A map of which values.yaml says the keys has a row for each of them, any other has one row.
    maps = {value.path for value in values() if isinstance(value.default, dict)}
    closed = {it.path for it in values() if it.path in maps and "type" not in _rule(it, rules)}
    for value in values():
        if value.path in closed or not {*_parents(value.path)} <= closed:
            continue
        default = json.dumps(value.default, ensure_ascii=False)
        text = value.text.replace("|", "\\|")
        rows.append(f"| `{value.name}` | `{default}` | {text} |")
    return "\n".join([head, "", "| value | default | what it is |", "|---|---|---|", *rows, ""])


def _parents(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (path[:length] for length in range(1, len(path)))
