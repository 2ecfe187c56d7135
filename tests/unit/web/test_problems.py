import json
from typing import Any

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from pydantic import BaseModel, Field
from redis import ConnectionError as NoRedisError
from sqlalchemy.exc import OperationalError

from penstock.gate import BrokerUnavailableError
from penstock_web.problems import Invalid, Unavailable, check, init_app, problem


class Part(BaseModel):
    size: int = Field(ge=1)


class Order(BaseModel):
    name: str
    parts: list[Part] = []


@pytest.fixture
def raising() -> Any:
    """Make a client of an application whose only page raises the given error."""

    def make(error: Exception | int) -> FlaskClient:
        app = Flask(__name__)
        init_app(app)

        @app.get("/")
        def page() -> str:
            if isinstance(error, int):
                abort(error, "as it is")
            raise error

        return app.test_client()

    return make


def wrong(values: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        check(Order, values)
    return dict(caught.value.errors)


def test_a_problem_says_what_its_status_means_and_what_was_wrong() -> None:
    answer = problem(
        422, "not so", errors=[("a.0", "is odd")], headers={"Retry-After": "5", "X-Other": "x"}
    )
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert (answer.headers["Retry-After"], answer.headers["X-Other"]) == ("5", "x")
    assert json.loads(answer.data) == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "not so",
        "errors": [{"field": "a.0", "message": "is odd"}],
    }


def test_a_problem_without_wrong_fields_lists_none() -> None:
    assert "errors" not in json.loads(problem(404, "there is none").data)


def test_each_wrong_field_is_named_by_its_place() -> None:
    assert wrong({"parts": [{"size": 1}, {"size": 0}, {}]}).keys() == {
        "name",
        "parts.1.size",
        "parts.2.size",
    }


def test_values_that_are_right_come_back_as_the_model() -> None:
    assert check(Order, {"name": "n", "parts": [{"size": "3"}]}).parts == [Part(size=3)]


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (Unavailable("the gate is shut"), "the gate is shut"),
        (BrokerUnavailableError("10.0.0.7 refused"), "the broker does not answer"),
        (NoRedisError("10.0.0.7 refused"), "the job records do not answer"),
        (
            OperationalError("SELECT 1", {}, Exception("10.0.0.7 refused")),
            "the database does not answer",
        ),
    ],
)
def test_a_server_that_is_down_is_a_503_that_gives_no_address_away(
    raising: Any, error: Exception, detail: str
) -> None:
    answer = raising(error).get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert detail in answer.get_json()["detail"]
    assert "10.0.0.7" not in answer.text


def test_an_error_that_nobody_foresaw_is_a_500_that_gives_nothing_away(raising: Any) -> None:
    answer = raising(KeyError("the secret")).get("/")
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "secret" not in answer.text


@pytest.mark.parametrize("status", [400, 403, 404, 409, 418, 501])
def test_what_a_view_aborts_with_is_a_problem_of_that_status(raising: Any, status: int) -> None:
    answer = raising(status).get("/")
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert answer.get_json()["detail"] == "as it is"


def test_a_method_that_is_not_there_still_says_which_are(raising: Any) -> None:
    answer = raising(404).post("/")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
