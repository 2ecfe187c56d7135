"""What must happen once: claims in a real broker, and what each kind of later run finds there."""

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import LossyWire, RedisServer

from penstock import effects as module
from penstock.broker import Broker
from penstock.effects import (
    Effects,
    GuardUnavailableError,
    StaleRunError,
    UncertainEffectError,
)

DAY = 86400


class Refused(Exception):  # noqa: N818 - what the provider says
    """Nothing has happened."""


class Provider:
    """Counts what it was made to do."""

    def __init__(self) -> None:
        self.charges = 0

    def charge(self) -> dict[str, str]:
        self.charges += 1
        return {"id": f"ch_{self.charges}"}

    def fail(self) -> None:
        self.charges += 1
        raise TimeoutError

    def refuse(self) -> None:
        raise Refused


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture(params=["", "prefix:"])
def broker(redis_url: str, request: pytest.FixtureRequest) -> Broker:
    return Broker(Redis.from_url(redis_url), request.param)


@pytest.fixture
def effects(broker: Broker) -> Effects:
    return Effects(lambda: broker, ttl=30 * DAY)


def run(
    effects: Effects,
    act: Callable[[], Any],
    fence: int = 1,
    policy: Any = "dead-letter",
    repeatable: float = 0,
) -> Any:
    """Have the effect as a run of job j with this fence would."""
    claim = effects.claim("j", "charge", fence, policy, repeatable)
    return effects.do(claim, act, (Refused,))


def leave_uncertain(effects: Effects, provider: Provider, fence: int = 1, **more: Any) -> None:
    with pytest.raises(TimeoutError):
        run(effects, provider.fail, fence, **more)


def age(broker: Broker, seconds: float) -> None:
    """Make the claim look as if it had been made so much earlier."""
    key = f"{broker.keys.prefix}penstock:effects:j"
    since = broker.client.hget(key, "charge:since")
    assert isinstance(since, bytes)
    broker.client.hset(key, "charge:since", str(int(since) - int(seconds * 1000)))


def test_an_effect_that_was_settled_is_not_had_again_and_its_value_is_given_back(
    effects: Effects, provider: Provider
) -> None:
    first = run(effects, provider.charge)
    # After a retry, a redelivery, a shutdown that gave the job back uncounted, a replay.
    for fence in (1, 2, 3):
        assert run(effects, provider.charge, fence) == first == {"id": "ch_1"}
    assert provider.charges == 1


def test_steps_and_jobs_are_apart(effects: Effects, provider: Provider) -> None:
    for job, step in (("j", "one"), ("j", "two"), ("k", "one")):
        claim = effects.claim(job, step, 1, "dead-letter")
        effects.do(claim, provider.charge, ())
    assert provider.charges == 3


@pytest.mark.parametrize("fence", [1, 2])
def test_an_uncertain_effect_is_left_to_a_person_who_is_told_what_to_do(
    effects: Effects, provider: Provider, fence: int
) -> None:
    leave_uncertain(effects, provider)

    with pytest.raises(UncertainEffectError, match="penstock effects did-not-happen j charge"):
        run(effects, provider.charge, fence)
    assert provider.charges == 1


def test_an_uncertain_effect_is_had_again_where_that_is_the_policy(
    effects: Effects, provider: Provider
) -> None:
    leave_uncertain(effects, provider)

    assert run(effects, provider.charge, 2, policy="retry") == {"id": "ch_2"}
    assert run(effects, provider.charge, 3, policy="retry") == {"id": "ch_2"}


def test_what_can_be_repeated_without_harm_is_for_as_long_as_that_holds(
    effects: Effects, provider: Provider, broker: Broker
) -> None:
    leave_uncertain(effects, provider)
    leave_uncertain(effects, provider, 2, repeatable=DAY)
    # It counts from the first time, not from the last.
    age(broker, DAY + 1)

    with pytest.raises(UncertainEffectError):
        run(effects, provider.charge, 3, repeatable=DAY)
    assert provider.charges == 2


def test_an_error_that_says_that_nothing_happened_leaves_nothing_behind(
    effects: Effects, provider: Provider
) -> None:
    with pytest.raises(Refused):
        run(effects, provider.refuse)

    assert run(effects, provider.charge, 2) == {"id": "ch_1"}


def test_that_nothing_happened_this_time_says_nothing_about_the_time_before(
    effects: Effects, provider: Provider
) -> None:
    leave_uncertain(effects, provider)
    with pytest.raises(Refused):
        run(effects, provider.refuse, 2, repeatable=DAY)

    with pytest.raises(UncertainEffectError):
        run(effects, provider.charge, 3)


def test_a_run_does_not_act_when_a_newer_one_has_begun_to(
    effects: Effects, provider: Provider
) -> None:
    leave_uncertain(effects, provider, fence=2)

    with pytest.raises(StaleRunError):
        run(effects, provider.charge, 1, policy="retry")
    assert provider.charges == 1
    assert run(effects, provider.charge, 3, policy="retry") == {"id": "ch_2"}


def test_a_run_does_not_act_when_a_newer_one_was_refused(
    effects: Effects, provider: Provider
) -> None:
    with pytest.raises(Refused):
        run(effects, provider.refuse, 2)

    with pytest.raises(StaleRunError):
        run(effects, provider.charge, 1)


def test_a_run_that_was_overtaken_in_the_middle_changes_nothing(
    effects: Effects, provider: Provider
) -> None:
    def be_overtaken() -> str:
        run(effects, provider.charge, 2, policy="retry")
        return "late"

    with pytest.raises(StaleRunError):
        run(effects, be_overtaken, 1)
    assert run(effects, provider.charge, 3) == {"id": "ch_1"}


def test_a_run_that_was_overtaken_does_not_release_the_newer_ones_claim(
    effects: Effects, provider: Provider
) -> None:
    def be_overtaken() -> None:
        leave_uncertain(effects, provider, 2, policy="retry")
        raise Refused

    with pytest.raises(Refused):
        run(effects, be_overtaken, 1)
    with pytest.raises(UncertainEffectError):
        run(effects, provider.charge, 3)


def test_a_value_that_json_does_not_know_leaves_the_effect_uncertain(effects: Effects) -> None:
    with pytest.raises(TypeError):
        run(effects, object)
    with pytest.raises(UncertainEffectError):
        run(effects, object, 2)


def test_claims_are_kept_while_the_job_can_come_back_and_a_day_when_it_has_ended_well(
    effects: Effects, provider: Provider, broker: Broker
) -> None:
    key = f"{broker.keys.prefix}penstock:effects:j"
    leave_uncertain(effects, provider)
    assert 29 * DAY < int(str(broker.client.ttl(key))) <= 30 * DAY
    run(effects, provider.charge, 2, policy="retry")
    assert 29 * DAY < int(str(broker.client.ttl(key))) <= 30 * DAY

    effects.ended("j")
    assert 0 < int(str(broker.client.ttl(key))) <= DAY


# A person's word


def test_an_effect_that_a_person_says_has_happened_is_not_had_again(
    effects: Effects, provider: Provider
) -> None:
    leave_uncertain(effects, provider)
    assert effects.happened("j", "charge", '{"id": "found"}')

    assert run(effects, provider.charge, 2) == {"id": "found"}


def test_an_effect_that_a_person_says_has_not_happened_is_had_again(
    effects: Effects, provider: Provider
) -> None:
    leave_uncertain(effects, provider)
    with pytest.raises(Refused):
        run(effects, provider.refuse, 2, repeatable=DAY)
    assert effects.did_not_happen("j", "charge")

    assert run(effects, provider.charge, 3) == {"id": "ch_2"}


def test_a_person_decides_only_what_is_uncertain(effects: Effects, provider: Provider) -> None:
    assert not effects.happened("j", "charge", "null")
    assert not effects.did_not_happen("j", "charge")
    run(effects, provider.charge)

    assert not effects.happened("j", "charge", "null")
    assert not effects.did_not_happen("j", "charge")
    assert run(effects, provider.charge, 2) == {"id": "ch_1"}


# A broker that fails


@pytest.fixture
def failing(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Effects:
    """Claims in a broker of the test's own, for which it is not waited while it is away."""
    monkeypatch.setattr(module, "NOTE_FOR", 0)
    monkeypatch.setattr(module, "NOTE_INTERVAL", 0)
    client = Redis.from_url(redis_server.url, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    effects = Effects(lambda: Broker(client), ttl=DAY)
    effects.claim("another", "step", 1, "retry")
    return effects


def test_without_the_broker_nothing_is_begun(
    failing: Effects, provider: Provider, redis_server: RedisServer
) -> None:
    redis_server.kill()
    with pytest.raises(GuardUnavailableError):
        run(failing, provider.charge)
    assert provider.charges == 0

    redis_server.start()
    assert run(failing, provider.charge, 2) == {"id": "ch_1"}


def test_a_broker_that_hung_does_not_make_the_claim_later_when_nobody_waits_for_it(
    failing: Effects,
    provider: Provider,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis_server.freeze()
    with monkeypatch.context() as impatient:
        impatient.setattr(module, "CLAIM_WITHIN", 0.5)
        with pytest.raises(GuardUnavailableError):
            run(failing, provider.charge)
    redis_server.thaw()

    assert redis_server.client.exists("penstock:effects:j") == 0
    assert run(failing, provider.charge, 2) == {"id": "ch_1"}


@pytest.mark.parametrize("tries", [1, 2])
def test_a_claim_whose_answer_was_lost_leaves_nothing_uncertain(
    provider: Provider, redis_server: RedisServer, tries: int
) -> None:
    with LossyWire(redis_server.port) as wire:
        client = Redis(port=wire.port, retry=Retry(NoBackoff(), tries - 1))
        effects = Effects(lambda: Broker(client), ttl=DAY)
        effects.claim("another", "step", 1, "retry")
        wire.lose = b"penstock:effects:j"
        if tries == 1:
            with pytest.raises(GuardUnavailableError):
                run(effects, provider.charge)
            assert provider.charges == 0

        assert run(effects, provider.charge, 2) == {"id": "ch_1"}
        assert (provider.charges, wire.lost) == (1, 1)


def test_an_effect_that_cannot_be_settled_is_uncertain_and_the_run_goes_on(
    failing: Effects, provider: Provider, redis_server: RedisServer
) -> None:
    def charge() -> dict[str, str]:
        redis_server.kill()
        return provider.charge()

    assert run(failing, charge) == {"id": "ch_1"}
    redis_server.start()
    with pytest.raises(UncertainEffectError):
        run(failing, provider.charge, 2)
    assert provider.charges == 1


def test_an_effect_is_settled_when_the_broker_is_back_soon(
    failing: Effects,
    provider: Provider,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "NOTE_FOR", 60)
    monkeypatch.setattr(module, "sleep", lambda _: redis_server.start())

    def charge() -> dict[str, str]:
        redis_server.kill()
        return provider.charge()

    assert run(failing, charge) == {"id": "ch_1"}
    assert run(failing, provider.charge, 2) == {"id": "ch_1"}
    assert provider.charges == 1


def test_a_full_broker_still_guards_the_jobs_that_it_gives_out(
    failing: Effects, provider: Provider, redis_server: RedisServer
) -> None:
    redis_server.client.config_set("maxmemory", "1")

    assert run(failing, provider.charge) == {"id": "ch_1"}
    assert run(failing, provider.charge, 2) == {"id": "ch_1"}
