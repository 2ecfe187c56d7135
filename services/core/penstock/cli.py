"""The `penstock` command."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import ValidationError

    from penstock.dead_letters import Batch, Cursor, DeadLetters, Filters
    from penstock.effects import Effects

# Characters that are shown of a message which cannot be read.
MESSAGE_SHOWN = 4000


class Commands(click.Group):
    """Commands that say in one line what is wrong with how they were called."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command and end the process."""
        try:
            sys.exit(super().main(*args, **{**options, "standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            print(f"penstock: {error.format_message()}", file=sys.stderr)
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(130)


@click.group(cls=Commands)
@click.version_option(package_name="penstock")
def main() -> None:
    """Operate Penstock. The settings are read from the environment (PENSTOCK_...)."""


@main.command()
@click.option("--ready", is_flag=True, help="Ask also whether it reaches the broker now.")
def health(ready: bool) -> None:
    """Exit 0 while the worker or scheduler of this container works, 1 with the reason otherwise."""
    from penstock.health import check

    if problem := check(ready=ready):
        print(problem, file=sys.stderr)
        sys.exit(1)


@main.group()
def db() -> None:
    """Prepare the database."""


@db.command()
def migrate() -> None:
    """Bring the schema to the newest version."""
    from penstock.database import Database
    from penstock.database.schema import state
    from penstock.reach import require_database
    from penstock.settings import get_settings, stop, without_password

    try:
        from penstock.database.migrate import upgrade
    except ModuleNotFoundError:
        stop("Alembic is not installed here; `docker compose run --rm migrate` has it")

    settings = get_settings()
    require_database(settings)
    database = Database(settings.database())
    where = without_password(settings.database_url)
    if state(database) == "newer":
        # A rollback: schemas are made so that the version before them can work with them.
        print(f"the schema of {where} is of a newer version and was left alone")
        return
    upgrade(database)
    print(f"the schema of {where} is up to date")


@db.command("wait")
def wait_for_schema() -> None:
    """Return when the schema is what this version needs, or newer; migrates nothing.

    It is waited for PENSTOCK_WAIT seconds; exit code 2 after that.
    """
    from penstock.database import Database
    from penstock.database.schema import wait
    from penstock.settings import get_settings, stop, without_password

    settings = get_settings()
    where = without_password(settings.database_url)
    found = wait(Database(settings.database()), settings.wait)
    if found is None:
        stop(
            f"the schema of {where} is not up to date after {settings.wait:g} s:"
            " run `penstock db migrate`, or look at why it did not end"
        )
    print(
        f"the schema of {where} is {'up to date' if found == 'current' else 'of a newer version'}"
    )


@db.command()
@click.option("--scale", type=click.FloatRange(min=0, min_open=True), default=1, show_default=True)
def seed(scale: float) -> None:
    """Fill an empty database with 1,000 users, 10,000 articles and 200,000 orders times SCALE."""
    from penstock.database import Database
    from penstock.database.seed import seed as fill
    from penstock.reach import require_database
    from penstock.settings import get_settings

    settings = get_settings()
    require_database(settings)
    seeded = fill(Database(settings.database()), scale)
    if seeded is None:
        print("the database has users already: nothing was written")
    else:
        print(f"{seeded.users:,} users, {seeded.articles:,} articles, {seeded.orders:,} orders")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def queues(as_json: bool) -> None:
    """Show how much there is to do in each queue."""
    from penstock.backlog import Backlog
    from penstock.reach import require_redis
    from penstock.records import Records
    from penstock.settings import get_settings
    from penstock.terminal import table

    settings = get_settings()
    require_redis(settings, "broker")
    items = [it.model_dump() for it in Backlog.connect(settings, Records.connect(settings)).read()]
    if as_json:
        print(json.dumps({"items": items}))
        return
    head = [name.upper().replace("_", " ") for name in items[0]]
    rows = [
        [
            "" if cell is None else f"{cell:,.0f}s" if isinstance(cell, float) else f"{cell}"
            for cell in item.values()
        ]
        for item in items
    ]
    print(table(head, rows))


@main.group("dead-letters")
def dead_letters() -> None:
    """Look at jobs that ended other than well, replay them or discard them."""


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_filters = _options(
    click.option("--queue", help="Of this queue."),
    click.option("--job", help="Of this job, such as payment.process."),
    click.option("--reason", help="With this reason, such as 'retries used up'."),
    click.option(
        "--older-than", metavar="AGE", help="That died more than AGE ago: 90s, 15m, 2h, 3d."
    ),
    click.option("--newer-than", metavar="AGE", help="That died less than AGE ago."),
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
# One letter by its id, or many.
_aim = _options(
    click.argument("letter_id", metavar="[ID]", required=False),
    _filters,
    click.option("--all", "every", is_flag=True, help="All there are; instead of a filter."),
    click.option("--yes", is_flag=True, help="Do not ask first whether to take many."),
    _as_json,
)


@dead_letters.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--cursor", help="Go on there; each page but the last says where.")
@_as_json
def list_letters(limit: int, cursor: str | None, as_json: bool, **filters: str | None) -> None:
    """List dead letters, the newest first."""
    from penstock import terminal
    from penstock.dead_letters import Cursor

    asked = _checked(filters)
    try:
        behind = Cursor.decode(cursor) if cursor else None
    except ValueError as error:
        raise click.UsageError(f"--cursor {error}") from None
    page = _letters().page(asked, behind, limit)
    further = page.next.encode() if page.next else None
    if as_json:
        items = [letter.model_dump() for letter in page.items]
        print(json.dumps({"items": items, "total": page.total, "next": further}))
        return
    if page.items:
        head = ("DIED (UTC)", "QUEUE", "JOB", "REASON", "ID", "ERROR")
        rows = [
            (terminal.moment(it.died_at), it.queue, it.job, it.reason, it.id, it.error)
            for it in page.items
        ]
        print(terminal.table(head, rows))
    print(f"{len(page.items):,} of {_counted(page.total)}")
    if further:
        print(f"more with --cursor {further}")


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@_as_json
def show(letter_id: str, as_json: bool) -> None:
    """Show all that is known of a dead letter."""
    from penstock.terminal import block, moment, printable

    letter = _letters().show(letter_id) or _not_there(letter_id)
    if as_json:
        print(json.dumps(letter.model_dump()))
        return
    for name in ("id", "job", "queue", "reason", "error"):
        print(f"{name:8}{printable(getattr(letter, name))}")
    print(f"died    {moment(letter.died_at)} UTC")
    print("attempts")
    for attempt in letter.attempts:
        print(block(f"{moment(attempt.at)}  {attempt.worker}  {attempt.error}"))
    if letter.unreadable is None:
        print("arguments")
        if letter.args:
            print(block(json.dumps(letter.args, ensure_ascii=False)))
        print(block(json.dumps(letter.kwargs, indent=2, ensure_ascii=False)))
    else:
        print(f"message ({printable(letter.unreadable)})")
        print(block(letter.message[:MESSAGE_SHOWN]))
    if letter.traceback:
        print("traceback")
        print(block(letter.traceback))


@dead_letters.command()
@_aim
@click.option("--kwargs", metavar="JSON", help="Other arguments for the job of ID; - reads them.")
def replay(letter_id: str | None, kwargs: str | None, **aim: Any) -> None:
    """Queue the job of a dead letter again, or the jobs of all letters that the filters mean."""
    from pydantic import ValidationError

    from penstock.dead_letters import DeadLetters, NotReplayableError

    if letter_id is None:
        if kwargs is not None:
            raise click.UsageError("--kwargs goes with the ID of one letter")
        _take_many("replay", DeadLetters.replay_many, **aim)
        return
    arguments = None if kwargs is None else _object(kwargs)
    try:
        _take_one(
            "replay", letter_id, lambda it: it.replay(letter_id, arguments) is not None, **aim
        )
    except NotReplayableError as error:
        raise click.UsageError(f"{letter_id} cannot be replayed: {error}") from None
    except ValidationError as error:
        raise click.UsageError(f"--kwargs: {_problems(error)}") from None


@dead_letters.command()
@_aim
def discard(letter_id: str | None, **aim: Any) -> None:
    """Discard a dead letter, or all that the filters mean."""
    from penstock.dead_letters import DeadLetters

    if letter_id is None:
        _take_many("discard", DeadLetters.discard_many, **aim)
    else:
        _take_one("discard", letter_id, lambda it: it.discard(letter_id), **aim)


def _take_one(
    verb: str,
    letter_id: str,
    take: Callable[[DeadLetters], bool],
    *,
    every: bool,
    yes: bool,
    as_json: bool,
    **filters: str | None,
) -> None:
    if every or any(filters.values()):
        raise click.UsageError("an ID goes without filters")
    if not take(_letters()):
        _not_there(letter_id)
    print(json.dumps({f"{verb}ed": 1, "refused": {}}) if as_json else f"{verb}ed {letter_id}")


def _take_many(
    verb: str,
    take: Callable[[DeadLetters, Filters, Cursor | None], Batch],
    *,
    every: bool,
    yes: bool,
    as_json: bool,
    **filters: str | None,
) -> None:
    from penstock.terminal import printable

    asked = _checked(filters)
    if asked.is_empty and not every:
        raise click.UsageError("needs an ID, a filter such as --queue payment, or --all")
    letters = _letters()
    count = letters.count(asked)
    if count and not yes:
        _require_consent(f"{verb} {_counted(count)}?")
    batch = take(letters, asked, None)
    done, refused = batch.done, batch.refused
    while batch.next:
        batch = take(letters, asked, batch.next)
        done, refused = done + batch.done, refused | batch.refused
    if as_json:
        print(json.dumps({f"{verb}ed": done, "refused": refused}))
    else:
        print(f"{verb}ed {_counted(done)}")
        for letter_id, why in refused.items():
            print(f"{printable(letter_id)} stays: {printable(why)}", file=sys.stderr)
    sys.exit(1 if refused else 0)


def _counted(letters: int) -> str:
    return f"{letters:,} dead letter{'' if letters == 1 else 's'}"


def _require_consent(question: str) -> None:
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        print(file=sys.stderr)
        raise click.UsageError("nobody answered; --yes does without the question") from None
    if not agreed:
        sys.exit(1)


def _checked(filters: dict[str, str | None]) -> Filters:
    from pydantic import ValidationError

    from penstock.dead_letters import Filters

    try:
        return Filters.model_validate(filters)
    except ValidationError as error:
        raise click.UsageError(f"--{_problems(error).replace('_', '-')}") from None


def _object(text: str) -> dict[str, Any]:
    if text == "-":
        text = sys.stdin.read()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--kwargs is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError('--kwargs must be an object, such as {"job": {"user_id": 1}}')
    return value


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors()
    )


def _letters() -> DeadLetters:
    from penstock.dead_letters import DeadLetters
    from penstock.reach import require_redis
    from penstock.settings import get_settings

    settings = get_settings()
    require_redis(settings, "broker")
    return DeadLetters.connect(settings)


def _not_there(letter_id: str) -> NoReturn:
    raise click.UsageError(
        f"there is no dead letter {letter_id}; it may have been replayed or discarded"
    )


@main.group()
def effects() -> None:
    """Say what became of an uncertain effect, before its job is replayed."""


@effects.command()
@click.argument("job_id")
@click.argument("step")
@click.option("--value", default="null", help="What it gave, in JSON, such as '\"ch_1\"'.")
def happened(job_id: str, step: str, value: str) -> None:
    """Say that the effect STEP of a job has happened: a replay goes on after it."""
    try:
        json.loads(value)
    except ValueError as error:
        raise click.UsageError(f"--value is not JSON: {error}") from None
    _decided(job_id, step, _effects().happened(job_id, step, value))


@effects.command("did-not-happen")
@click.argument("job_id")
@click.argument("step")
def did_not_happen(job_id: str, step: str) -> None:
    """Say that the effect STEP of a job has not happened: a replay does it."""
    _decided(job_id, step, _effects().did_not_happen(job_id, step))


def _decided(job_id: str, step: str, was_uncertain: bool) -> None:
    if not was_uncertain:
        raise click.UsageError(f"nothing is uncertain about the effect {step!r} of job {job_id}")
    print(f"noted; now replay the job: penstock dead-letters replay {job_id}")


def _effects() -> Effects:
    from penstock.effects import Effects
    from penstock.reach import require_redis
    from penstock.settings import get_settings

    settings = get_settings()
    require_redis(settings, "broker")
    return Effects.connect(settings)
