"""What is said at the end of an installation; `helm template` leaves it out."""

import shutil
from pathlib import Path

import pytest
import yaml

from helm.chart import SETS, run
from penstock_dev.chart import CHART

pytestmark = pytest.mark.helm

OBJECT = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data: {text: {{ include "notes" . | quote }}}
"""


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with its notes in an object, where they can be read without a cluster."""
    made = tmp_path_factory.mktemp("notes") / "penstock"
    shutil.copytree(CHART, made)
    notes = made / "templates" / "NOTES.txt"
    text = notes.read_text()
    notes.unlink()
    named = '{{- define "notes" }}' + text + "{{- end }}" + OBJECT
    (made / "templates" / "notes.yaml").write_text(named)
    return made


def _notes(chart: Path, values: str) -> str:
    words = ("--values", SETS[values], "--show-only", "templates/notes.yaml")
    said = yaml.safe_load(run("template", "penstock", chart, "--namespace", "jobs", *words))
    return str(said["data"]["text"])


def test_they_say_where_web_and_flower_are(chart: Path) -> None:
    assert "port-forward svc/penstock-web 8000:80\n" in _notes(chart, "minimal")
    assert "port-forward svc/penstock-flower 5555\n" in _notes(chart, "minimal")
    production = _notes(chart, "production")
    assert "https://jobs.example.com/api/articles\n" in production
    assert "https://jobs.example.com/flower\n" in production
    gateway = _notes(chart, "gateway")
    assert "https://jobs.example.com/api/articles\n" in gateway
    assert "https://flower.example.com/\n" in gateway
    assert "port-forward" not in production + gateway


def test_they_say_what_an_uninstallation_leaves(chart: Path) -> None:
    assert "delete pvc,secret -l app.kubernetes.io/instance=penstock" in _notes(chart, "minimal")
    assert "Nothing is kept" in _notes(chart, "single-node")


def test_they_say_what_has_yet_to_be_set(chart: Path) -> None:
    assert "set smtp.host" in _notes(chart, "minimal")
    assert "set payment.url" in _notes(chart, "minimal")
    assert "set " not in _notes(chart, "externals").replace("set persistence", "")
