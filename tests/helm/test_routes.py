"""What leads to web and to Flower from outside."""

import pytest

from helm.chart import Rendered, with_values

pytestmark = pytest.mark.helm

EXPOSED = """
flower:
  signIn: "a:b"
  prefix: "%s"
  ingress: {enabled: true, hosts: [a.example]}
  gateway: {enabled: true, parentRefs: [{name: public}]}
"""


def _ingress(rendered: Rendered, part: str) -> dict[str, str]:
    [rule] = rendered.one("Ingress", part)["spec"]["rules"]
    paths = rule["http"]["paths"]
    assert {it["pathType"] for it in paths} == {"Prefix"}
    return {it["path"]: it["backend"]["service"]["name"] for it in paths}


def _route(rendered: Rendered, part: str) -> dict[str, str]:
    return {
        match["path"]["value"]: rule["backendRefs"][0]["name"]
        for rule in rendered.one("HTTPRoute", part)["spec"]["rules"]
        for match in rule["matches"]
        if match["path"]["type"] == "PathPrefix"
    }


@pytest.mark.parametrize("prefix", ["", "/flower", "/a/b"])
@pytest.mark.parametrize("routes", [_ingress, _route], ids=["Ingress", "HTTPRoute"])
def test_what_flower_answers_without_a_sign_in_is_not_for_outside(
    prefix: str,
    routes: object,
) -> None:
    assert callable(routes)
    leads = routes(with_values(EXPOSED % prefix), "flower")
    for path in ("/metrics", "/healthcheck", "/metrics/more"):
        whole = prefix + path
        fitting = [it for it in leads if f"{whole}/".startswith(f"{it.rstrip('/')}/")]
        assert leads[max(fitting, key=len)] == "penstock-web"
    assert leads[prefix or "/"] == "penstock-flower"


def test_web_has_nothing_where_flower_is_closed() -> None:
    """The rest of what is routed there is refused by web: no answer of its own, or its key."""
    text = "ingress: {enabled: true, hosts: [a.example]}"
    assert _ingress(with_values(text), "web") == {"/api": "penstock-web"}
