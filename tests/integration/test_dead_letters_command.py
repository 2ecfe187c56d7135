"""The command `penstock dead-letters`."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from letters import bury, job
from processes import environment, run
from redis import Redis

from penstock.broker import Broker
from penstock.cli import main
from penstock.envelope import Envelope
from penstock.settings import get_settings

PAYMENT = {"order": "o-1", "currency": "EUR", "amount": "19.90"}


@pytest.fixture
def broker(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A broker that the command finds in its environment."""
    for name, value in environment(broker_url=redis_url).items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    return Broker(Redis.from_url(redis_url))


def command(*words: str, given: str = "") -> Result:
    return CliRunner().invoke(main, ["dead-letters", *words], input=given, env={"COLUMNS": "200"})


def fine(*words: str, given: str = "") -> str:
    answer = command(*words, given=given)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def fine_json(*words: str) -> Any:
    return json.loads(fine(*words, "--json"))


def refusal(*words: str, given: str = "") -> str:
    """Return the one line with which the command refuses."""
    answer = command(*words, given=given)
    assert (answer.exit_code, answer.stdout) == (2, "")
    [line] = answer.stderr.splitlines()
    assert line.startswith("penstock: ")
    return line


def count(broker: Broker) -> int:
    return int(broker.client.zcard(broker.keys.letters()))


def waiting(broker: Broker) -> list[Envelope]:
    return [Envelope.decode(item) for item in broker.held("payment")]


def test_letters_are_a_table_and_the_filters_choose_its_rows(broker: Broker) -> None:
    bury(broker, job(job_id="a"), "payment", "poison", "killed its worker")
    bury(broker, job("email.send", "b"), "email", "time limit", "took too long")

    lines = fine("list").splitlines()
    assert lines[0].split() == ["DIED", "(UTC)", "QUEUE", "JOB", "REASON", "ID", "ERROR"]
    assert lines[1].endswith("email.send       time limit  b   took too long")
    assert lines[2].endswith("payment.process  poison      a   killed its worker")
    assert lines[3:] == ["2 of 2 dead letters"]
    for option, value in (
        ("--queue", "email"),
        ("--job", "email.send"),
        ("--reason", "time limit"),
    ):
        assert [it["id"] for it in fine_json("list", option, value)["items"]] == ["b"]
    assert fine("list", "--older-than", "1h") == "0 of 0 dead letters\n"
    assert fine_json("list", "--newer-than", "1h")["total"] == 2


def test_the_next_page_is_asked_for_with_the_cursor_of_the_last(broker: Broker) -> None:
    for number in range(3):
        bury(broker, job(job_id=f"j-{number}"))

    first = fine_json("list", "--limit", "2")
    assert f"more with --cursor {first['next']}" in fine("list", "--limit", "2")
    second = fine_json("list", "--limit", "2", "--cursor", first["next"])
    assert [it["id"] for it in first["items"] + second["items"]] == ["j-2", "j-1", "j-0"]
    assert second["next"] is None


def test_a_letter_is_shown_with_all_that_is_known_of_it(broker: Broker) -> None:
    bury(
        broker,
        job(body=[[], {"job": PAYMENT}, {}]),
        error="OSError: gone",
        traceback="Traceback:\n  line 1\nOSError: gone",
    )

    shown = fine("show", "j-1")
    for part in (
        "payment.process",
        "permanent error",
        "worker-1  OSError: gone",
        '"amount": "19.90"',
        "  Traceback:\n    line 1\n",
    ):
        assert part in shown
    assert fine_json("show", "j-1")["kwargs"] == {"job": PAYMENT}


def test_what_a_terminal_would_act_on_is_escaped(broker: Broker) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\u202e"
    bury(broker, job(f"job{evil}", f"id{evil}"), "payment", "poison", evil, f"a\n{evil}\n")
    bury(broker, f"\xff{evil}".encode("latin-1", "replace"), reason="undecodable", error=evil)
    ids = [it["id"] for it in fine_json("list")["items"]]

    for shown in (fine("list"), *(fine("show", letter_id) for letter_id in ids)):
        assert all(letter.isprintable() for letter in shown.replace("\n", ""))
        assert "\\x1b[2J" in shown


def test_a_letter_is_replayed_once(broker: Broker) -> None:
    bury(broker, job())

    assert fine("replay", "j-1") == "replayed j-1\n"
    assert "there is no dead letter j-1" in refusal("replay", "j-1")
    assert [it.job_id for it in waiting(broker)] == ["j-1"]


def test_a_letter_is_replayed_with_other_arguments(broker: Broker) -> None:
    arguments = json.dumps({"job": PAYMENT})
    for how in ({"kwargs": arguments}, {"kwargs": "-", "given": arguments}):
        bury(broker, job())
        fine("replay", "j-1", "--kwargs", how["kwargs"], given=how.get("given", ""))

    assert [it.body()[1] for it in waiting(broker)] == [{"job": PAYMENT}] * 2


def test_many_are_taken_when_that_was_confirmed(broker: Broker) -> None:
    for number in range(3):
        bury(broker, job(job_id=f"j-{number}"))
    bury(broker, job("email.send", "e"), "email")

    declined = command("replay", "--queue", "payment", given="n\n")
    assert (declined.exit_code, declined.stdout) == (1, "")
    assert "replay 3 dead letters?" in declined.stderr
    assert count(broker) == 4
    unanswered = command("discard", "--queue", "payment")
    assert unanswered.exit_code == 2
    assert "--yes" in unanswered.stderr
    assert count(broker) == 4
    assert "replayed 3 dead letters" in fine("replay", "--queue", "payment", given="y\n")
    assert fine_json("discard", "--all", "--yes") == {"discarded": 1, "refused": {}}
    assert (count(broker), len(waiting(broker))) == (0, 3)


def test_more_than_one_portion_is_taken(broker: Broker) -> None:
    for number in range(1203):
        bury(broker, job(job_id=f"j-{number}"))

    assert fine("discard", "--all", "--yes") == "discarded 1,203 dead letters\n"
    assert count(broker) == 0


def test_what_cannot_be_replayed_is_named_and_the_exit_code_says_so(broker: Broker) -> None:
    bury(broker, b"no message", reason="undecodable")
    bury(broker, job())
    [malformed] = [it["id"] for it in fine_json("list", "--reason", "undecodable")["items"]]

    answer = command("replay", "--all", "--yes")
    assert (answer.exit_code, answer.stdout) == (1, "replayed 1 dead letter\n")
    assert answer.stderr.startswith(f"{malformed} stays: its message is malformed")
    assert "malformed" in refusal("replay", malformed)
    assert fine("discard", malformed) == f"discarded {malformed}\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("list", "--older-than", "soon"), "--older-than: must be seconds"),
        (("list", "--newer-than", "-1"), "--newer-than: must be seconds"),
        (("list", "--cursor", "x"), "--cursor is not a cursor"),
        (("list", "--limit", "0"), "--limit"),
        (("list", "--colour"), "--colour"),
        (("list", "more"), "more"),
        (("show",), "ID"),
        (("show", "nobody"), "there is no dead letter nobody"),
        (("show", "\udcff"), "there is no dead letter"),
        (("list", "--queue", "\udcff", "--limit", "x"), "--limit"),
        (("discard", "nobody"), "there is no dead letter nobody"),
        (("discard",), "needs an ID, a filter such as --queue payment, or --all"),
        (("discard", "--yes"), "needs an ID"),
        (("replay",), "needs an ID"),
        (("replay", "j-1", "--queue", "payment"), "an ID goes without filters"),
        (("discard", "j-1", "--all"), "an ID goes without filters"),
        (("replay", "--all", "--kwargs", "{}"), "--kwargs goes with the ID"),
        (("replay", "j-1", "--kwargs", "{"), "--kwargs is not JSON"),
        (("replay", "j-1", "--kwargs", "[]"), "--kwargs must be an object"),
        (("replay", "j-1", "--kwargs", "{}"), "--kwargs: job: Field required"),
        (("replay", "j-1", "--kwargs", '{"job": {"amount": 1}}'), "job.amount: must be a decimal"),
        (("nothing",), "nothing"),
    ],
)
def test_what_was_not_meant_is_one_line_and_changes_nothing(
    broker: Broker, words: tuple[str, ...], why: str
) -> None:
    bury(broker, job())

    assert why in refusal(*words)
    assert count(broker) == 1
    assert waiting(broker) == []


def test_letters_of_names_that_no_text_can_have_are_not_found(broker: Broker) -> None:
    assert fine_json("list", "--queue", "\udcff")["total"] == 0


def test_a_broker_that_does_not_answer_is_one_line() -> None:
    env = environment(broker_url="redis://127.0.0.1:1/0")
    answer = run("penstock", "dead-letters", "list", env=env)

    assert (answer.returncode, answer.stdout) == (2, "")
    [line] = answer.stderr.splitlines()
    assert "check PENSTOCK_BROKER_URL" in line


def test_the_command_is_found_and_knows_its_words(broker: Broker, redis_url: str) -> None:
    bury(broker, job())
    env = environment(broker_url=redis_url)

    answer = run("penstock", "dead-letters", "discard", "j-1", env=env)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "discarded j-1\n", "")
    without = run("penstock", "dead-letters", env=env)
    assert without.returncode == 2
    assert all(word in without.stderr for word in ("list", "show", "replay", "discard"))
