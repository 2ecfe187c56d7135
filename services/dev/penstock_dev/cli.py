"""The `penstock-dev` command, which ./task calls."""

import os
import shutil
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import requests
from rich.console import Console

from penstock_dev import archive, containers, doctor, env, images, rotate, secret_files, upgrade
from penstock_dev.client import Api, MailDev, MailFolder, RequestFailedError
from penstock_dev.embedded import ROOT, EmbeddedError, Running, embedded, stop

SECRETS = ROOT / "deploy" / "secrets"
# Below it is all that a run keeps.
VAR = Path(os.environ.get("PENSTOCK_VAR") or ROOT / "var")
# A tenth of the full data set: enough to see progress in a report, little enough for a first look.
DEMO_SCALE = 0.1

console = Console()


@click.group()
def main() -> None:
    """Run the stack on this machine, embedded or in containers."""
    signal.signal(signal.SIGTERM, _as_interrupt)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(reason: str, code: int = 1) -> NoReturn:
    print(f"penstock: {reason}", file=sys.stderr)
    sys.exit(code)


@main.command()
@click.option("--against", metavar="URL", help="Use the stack that runs there.")
@click.option("--key", help="Its API key; by default the one in deploy/secrets.")
@click.option("--mail", metavar="URL", help="Its MailDev; by default as in .env.")
@click.option("--provider", metavar="URL", help="Its payment provider; by default as in .env.")
def demo(against: str | None, key: str | None, mail: str | None, provider: str | None) -> None:
    """Do one of each job and show what came out."""
    # Rich and Pillow are for the demo alone.
    from penstock_dev.demo import Demo

    folder = VAR / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        if against:
            known = env.read(ROOT / ".env")
            # It clears the cache, which needs the operator's key where there is one.
            key = key or secret_files.read(SECRETS, "operator_key")
            api = Api(against, key or secret_files.read(SECRETS, "api_key"))
            mailbox = MailDev(mail or f"http://127.0.0.1:{known.get('PENSTOCK_MAIL_PORT', 1080)}")
            provider = provider or f"http://127.0.0.1:{known.get('PENSTOCK_PROVIDER_PORT', 8090)}"
            fine = Demo(api, mailbox, provider, folder, console).run()
        else:
            state = VAR / "embedded-demo"
            shutil.rmtree(state, ignore_errors=True)
            with embedded(state, scale=DEMO_SCALE, say=console.print) as stack:
                it = stack.running
                _show(it)
                api = Api(it.web, it.key)
                fine = Demo(api, MailFolder(Path(it.mail)), it.provider, folder, console).run()
    except FileNotFoundError as error:
        _fail(f"{error.filename} does not exist: run ./task env first, or give --key", 2)
    except EmbeddedError as error:
        _fail(str(error), 2)
    except (RequestFailedError, requests.RequestException) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    console.print(f"outcomes: {os.path.relpath(folder)}/")
    if not fine:
        _fail("not everything was as it should be; see above")


@main.command()
@click.option("--embedded", "plain", is_flag=True, help="Do without containers in any case.")
def up(plain: bool) -> None:
    """Keep the stack running."""
    if not plain and containers.engine_answers():
        console.print("a Docker engine answers: starting the stack in containers")
        _up_in_containers()
        return
    console.print("starting the stack embedded, without containers")
    try:
        with embedded(VAR / "embedded", scale=1, say=console.print) as stack:
            _show(stack.running)
            console.print("Ctrl-C or ./task down ends it")
            stack.watch()
    except EmbeddedError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        console.print("ended")


def _up_in_containers() -> None:
    _prepare()
    if _tell(doctor.before_start()):
        sys.exit(2)
    if code := containers.up():
        sys.exit(code)
    known = env.read(ROOT / ".env")
    overlays = containers.overlays()
    if "compose.tls.yaml" in overlays:
        https = known.get("PENSTOCK_HTTPS_PORT") or "443"
        name = f"{known.get('PENSTOCK_DOMAIN')}{'' if https == '443' else f':{https}'}"
        console.print(f"API     https://{name}/api/articles")
        console.print(f"Flower  https://{name}/flower/")
    else:
        port = known.get("PENSTOCK_WEB_PORT", 8000)
        console.print(f"API     http://127.0.0.1:{port}/api/articles")
    if "compose.dev.yaml" in overlays:
        # Behind the proxy Flower is under its path on this port too.
        path = "/flower/" if "compose.tls.yaml" in overlays else "/"
        console.print(f"Flower  http://127.0.0.1:{known.get('PENSTOCK_FLOWER_PORT', 5555)}{path}")
        console.print(f"mail    http://127.0.0.1:{known.get('PENSTOCK_MAIL_PORT', 1080)}/")
    console.print("the API key and Flower's password are in deploy/secrets/")


def _show(it: Running) -> None:
    lines = (
        f"API     {it.web}/api/articles  (Authorization: Bearer {it.key})",
        f"Flower  {it.flower}/  (sign in as {it.flower_sign_in})",
        f"mail    {it.mail}/",
        f"ledger  {it.provider}/ledger",
        f"logs    {it.folder}/logs/",
    )
    # A key that is broken over two lines cannot be copied.
    console.print("\n".join(lines), soft_wrap=True)


@main.command()
def down() -> None:
    """End what `up` started."""
    ended = stop(VAR / "embedded")
    if ended:
        console.print("the embedded stack has ended")
    if containers.engine_answers() and containers.are_up():
        ended = True
        if code := containers.down():
            sys.exit(code)
    if not ended:
        console.print("nothing was running")


@main.command("doctor")
def examine() -> None:
    """Say what keeps the containers from starting or working, and what to do; exit 1 for that."""
    found = doctor.examine()
    if _tell(found):
        sys.exit(1)
    if not found:
        console.print("settings, secrets, ports, memory, disk, clock and servers are in order")


def _tell(found: list[doctor.Finding]) -> bool:
    """Say what was found; return whether there is an error among it."""
    for finding in found:
        print(f"penstock: {finding.level}: {finding.text}", file=sys.stderr)
    return any(finding.level == "error" for finding in found)


@main.command("backup")
@click.option("--folder", default=ROOT / "backups", type=Path, help="Where to put it.")
def back_up(folder: Path) -> None:
    """Write all that the running containers keep to one file."""
    try:
        path = archive.back_up(folder, _step)
    except (containers.ContainersError, OSError) as error:
        _fail(f"no backup was made: {error}")
    size = path.stat().st_size / images.MB
    console.print(f"{path}  {size:.1f} MB; it holds the secrets: keep it where nobody else reads")
    console.print(f"to bring it back: ./task restore -- {path}", soft_wrap=True)


@main.command()
@click.argument("path", type=Path)
@click.option("--yes", is_flag=True, help="Do not ask first.")
def restore(path: Path, yes: bool) -> None:
    """Put everything back as a backup has it."""
    try:
        manifest = archive.verify(path)
        if not yes:
            _require_consent(
                "This replaces the database, the jobs, their results, the files and the secrets"
                f" by those of {manifest.created}. Go on?"
            )
        archive.restore(path, _step)
    except archive.ArchiveError as error:
        _fail(f"{error}. Nothing was changed.", 2)
    except containers.ContainersError as error:
        _fail(f"the restore did not come to its end: {error}; it can be run again")
    console.print(f"everything is as it was at {manifest.created}")


@main.command("upgrade")
@click.argument("tag", metavar="[VERSION]", required=False)
@click.option("--folder", default=ROOT / "backups", type=Path, help="Where the backup goes.")
def upgrade_(tag: str | None, folder: Path) -> None:
    """Back up, build, migrate and restart service by service."""
    try:
        path = upgrade.upgrade(tag, folder, _step)
    except (containers.ContainersError, upgrade.UpgradeError) as error:
        _fail(str(error))
    console.print("every service runs the new version and is healthy")
    console.print(f"to go back: ./task restore -- {path}", soft_wrap=True)


@main.command()
@click.argument("service", type=click.Choice(containers.WORKERS))
@click.argument("count", type=click.IntRange(0, 100))
def scale(service: str, count: int) -> None:
    """Run COUNT containers of a worker; those that are too many end after their jobs."""
    try:
        containers.compose(
            "up",
            "--detach",
            "--no-deps",
            "--no-recreate",
            "--wait",
            "--scale",
            f"{service}={count}",
            service,
        )
    except containers.ContainersError as error:
        _fail(str(error))
    console.print(f"{count} x {service}")


@main.command("rotate")
@click.argument("name", type=click.Choice(rotate.NAMES))
def rotate_(name: str) -> None:
    """Make the secret NAME anew, or take it as its file has it, and restart who uses it."""
    try:
        rotate.rotate(name, _step)
    except containers.ContainersError as error:
        _fail(str(error))


def _step(what: str) -> None:
    console.print(what)


def _require_consent(question: str) -> None:
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        print(file=sys.stderr)
        _fail("nobody answered; --yes does without the question", 2)
    if not agreed:
        sys.exit(1)


@main.command("env")
def write_env() -> None:
    """Write .env and the secrets where they are missing; what exists is left alone."""
    if not _prepare():
        console.print(".env and all secrets exist already and were left alone")


def _prepare() -> bool:
    """Write what is missing of .env and the secrets; return whether anything was."""
    target = ROOT / ".env"
    new = not target.exists()
    if new:
        env.write(ROOT / "deploy" / ".env.example", target)
        console.print("wrote .env")
    names = secret_files.write(SECRETS)
    if names:
        console.print(f"wrote to deploy/secrets/: {', '.join(names)}")
    return new or bool(names)


@main.group("images")
def images_() -> None:
    """Look at the images that `./task images:build` makes."""


@images_.command("size")
@click.option("--tag", help="Of this version; by default the packages' own.")
def image_sizes(tag: str | None) -> None:
    """Print how much each image adds to its base; exit 1 where one is over its budget."""
    from rich.table import Table

    table = Table("image", "MB above base", "budget", "the most of it")
    over = []
    try:
        for service, budget in images.BUDGETS.items():
            name = images.name(service, tag or _version())
            size = images.size_above_base(name) / images.MB
            table.add_row(name, f"{size:.1f}", str(budget.most), budget.reason)
            if size > budget.most:
                over.append(f"{name} is {size - budget.most:.1f} MB over its budget")
    except images.NoImageError as error:
        _fail(str(error), 2)
    console.print(table)
    if over:
        _fail("; ".join(over))


@images_.command("sbom")
@click.option("--tag", help="Of this version; by default the packages' own.")
@click.option("--folder", default=VAR / "sbom", type=Path, help="Where to write them.")
def bills(tag: str | None, folder: Path) -> None:
    """Write a bill of materials of each image, in CycloneDX."""
    try:
        for service in images.BUDGETS:
            name = images.name(service, tag or _version())
            # Asked first, since the engine would say it in its own words.
            images.size_above_base(name)
            console.print(os.path.relpath(images.write_bill(name, folder)))
    except images.NoImageError as error:
        _fail(str(error), 2)


def _version() -> str:
    """Return the tag that `./task images:build` gives; the one in .env may be a development's."""
    return os.environ.get("PENSTOCK_VERSION") or version("penstock")


@main.command("chart")
def write_chart() -> None:
    """Bring up to date what the Helm chart holds that is written elsewhere."""
    from penstock_dev import chart

    old = chart.write()
    for path in old:
        console.print(os.path.relpath(path))
    if not old:
        console.print("everything was up to date")


@main.command()
@click.option("--bind", envvar="PENSTOCK_MAIL_BIND", default="127.0.0.1:1025")
@click.option("--folder", envvar="PENSTOCK_MAIL_FOLDER", default="var/mail", type=Path)
def mail(bind: str, folder: Path) -> None:
    """Catch mail and keep it as files."""
    from penstock_dev.mail_catcher import serve

    host, _, port = bind.rpartition(":")
    try:
        serve(host, int(port), folder)
    except OSError as error:
        _fail(str(error), 2)


@main.command()
@click.option("--bind", envvar="PENSTOCK_PROVIDER_BIND", default="127.0.0.1:8090")
@click.option("--ledger", envvar="PENSTOCK_PROVIDER_LEDGER", default="var/ledger.jsonl", type=Path)
def provider(bind: str, ledger: Path) -> None:
    """Be the payment provider."""
    from penstock_dev.provider import serve

    host, _, port = bind.rpartition(":")
    serve(host, int(port), ledger)
