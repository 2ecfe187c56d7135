"""The `penstock` command."""

import sys

import click


@click.group()
@click.version_option(package_name="penstock")
def main() -> None:
    """Operate Penstock. The settings are read from the environment (PENSTOCK_...)."""


@main.command()
def health() -> None:
    """Exit 0 while the worker or scheduler of this container works, 1 with the reason otherwise."""
    from penstock.health import check

    if problem := check():
        print(problem, file=sys.stderr)
        sys.exit(1)


@main.group()
def db() -> None:
    """Prepare the database."""


@db.command()
def migrate() -> None:
    """Bring the schema to the newest version."""
    from penstock.database import Database
    from penstock.database.migrate import upgrade
    from penstock.reach import require_database
    from penstock.settings import get_settings, without_password

    settings = get_settings()
    require_database(settings)
    upgrade(Database(settings.database()))
    print(f"the schema of {without_password(settings.database_url)} is up to date")


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
