from importlib.resources import files

import pytest
from jinja2 import UndefinedError

from penstock.contracts import TEMPLATES as CONTRACT
from penstock_email.message import TEMPLATES

HOSTILE = "<script>alert('x')</script> & Söhne"


def context(template: str) -> dict[str, str]:
    return {field: f"{field}: {HOSTILE}" for field in CONTRACT[template]}


def test_the_folder_has_a_text_and_an_html_for_each_template_of_the_contract() -> None:
    found = {file.name for file in files("penstock_email").joinpath("templates").iterdir()}
    wanted = {f"{name}.{kind}" for name in CONTRACT for kind in ("txt", "html")}
    assert found == wanted | {"layout.html"}


@pytest.mark.parametrize("template", CONTRACT)
def test_the_text_holds_each_value_as_it_was_given(template: str) -> None:
    text = TEMPLATES.get_template(f"{template}.txt").render(context(template))
    for value in context(template).values():
        assert value in text


@pytest.mark.parametrize("template", CONTRACT)
def test_the_html_holds_each_value_escaped(template: str) -> None:
    html = TEMPLATES.get_template(f"{template}.html").render(context(template))
    assert "<script" not in html
    for field in CONTRACT[template]:
        assert f"{field}: &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; Söhne" in html


@pytest.mark.parametrize("kind", ["txt", "html"])
@pytest.mark.parametrize("template", CONTRACT)
def test_a_template_without_one_of_its_values_is_an_error(template: str, kind: str) -> None:
    for field in CONTRACT[template]:
        incomplete = {key: value for key, value in context(template).items() if key != field}
        with pytest.raises(UndefinedError, match=f"'{field}' is undefined"):
            TEMPLATES.get_template(f"{template}.{kind}").render(incomplete)


def test_the_lines_of_a_notification_stay_lines_in_html() -> None:
    values = {"name": "Ada", "title": "News", "message": "one\r\ntwo\nthree"}
    html = TEMPLATES.get_template("notification.html").render(values)
    assert "one<br>two<br>three" in html
