"""One of each job, done for real and looked at: `./task demo`.

It talks to a running stack as any client does. What comes out is kept in a folder, compared with
what was asked for, and shown in a table.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from time import monotonic, sleep
from typing import Any
from zipfile import ZipFile

import requests
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from penstock_dev.client import Api, Mailbox, mail_with

# Seconds after which a job that has not ended counts as failed.
LIMIT = 120.0
# Seconds between two looks at the jobs.
POLL = 0.2
PICTURE = (1600, 1200)
RENDITIONS = [
    {"name": "large", "width": 800, "height": 800, "fit": "contain", "format": "jpeg"},
    {"name": "card", "width": 320, "height": 180, "fit": "cover", "format": "webp"},
    {"name": "thumb", "width": 128, "height": 128, "fit": "cover", "format": "png"},
]
SIZES = {"large.jpg": (800, 600), "card.webp": (320, 180), "thumb.png": (128, 128)}


class Wrong(Exception):  # noqa: N818 - what the outcome is
    """An outcome is not as it should be."""


@dataclass
class Run:
    """One job of the demo: how it is posted, and how its outcome is judged.

    `judge` gets the job's last status, returns a few words on the outcome and raises Wrong.
    """

    job: str
    post: Callable[[], requests.Response]
    judge: Callable[[dict[str, Any]], str]
    bar: int = 0
    status_url: str = ""
    status: dict[str, Any] = field(default_factory=dict)
    outcome: str = ""
    fine: bool = False


class Demo:
    """The demo against one stack, its outcomes kept in `folder`."""

    def __init__(
        self, api: Api, mailbox: Mailbox, provider: str, folder: Path, console: Console
    ) -> None:
        self.api = api
        self.mailbox = mailbox
        self.provider = provider
        self.folder = folder
        self.console = console
        # Tells this run's mails and charges from those of another.
        self.mark = token_hex(4)

    def run(self) -> bool:
        """Do it all; return whether everything was as it should be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        read = self._read_twice()
        runs = [
            Run("email.send", self._post_email, self._judge_email),
            Run("notification.send", self._post_notification, self._judge_notification),
            Run("image.process", self._post_image, self._judge_image),
            Run("report.export", self._post_report, self._judge_report),
            Run("payment.process", self._post_payment, self._judge_payment),
        ]
        bars = Progress(
            TextColumn("{task.description:18}"),
            BarColumn(),
            TextColumn("{task.fields[state]:9}"),
            TimeElapsedColumn(),
            console=self.console,
        )
        with bars:
            for run in runs:
                run.bar = bars.add_task(run.job, total=1, state="")
                self._tried(run, self._post)
            deadline = monotonic() + LIMIT
            while open_runs := [run for run in runs if not run.outcome]:
                sleep(POLL)
                for run in open_runs:
                    self._tried(run, self._look)
                    if monotonic() > deadline and not run.outcome:
                        run.outcome = f"has not ended within {LIMIT:.0f} s"
                    _show(run, bars)
        self.console.print(_table(runs))
        return read and all(run.fine for run in runs)

    def _tried(self, run: Run, step: Callable[[Run], None]) -> None:
        try:
            step(run)
        except Exception as error:  # any fault of one job is told in its row of the table
            run.outcome = str(error) or type(error).__name__

    def _post(self, run: Run) -> None:
        run.status_url = run.post().json()["status_url"]

    def _look(self, run: Run) -> None:
        answer = self.api.get(run.status_url)
        run.status = answer.json()
        if answer.status_code == 202:
            return
        if run.status["state"] != "SUCCESS":
            raise Wrong(run.status.get("error", run.status["status"]))
        run.outcome = run.judge(run.status)
        run.fine = True

    def _read_twice(self) -> bool:
        self.api.post("/api/cache/clear")
        seen = []
        for _ in range(2):
            answer = self.api.get("/api/articles?per_page=5")
            milliseconds = answer.elapsed.total_seconds() * 1000
            seen.append(answer.headers["X-Cache"])
            self.console.print(
                f"GET /api/articles?per_page=5  X-Cache: {seen[-1]:4}  {milliseconds:.1f} ms"
            )
        if seen != ["miss", "hit"]:
            self.console.print(f"[red]wanted a miss and then a hit, got {seen}[/]")
        return seen == ["miss", "hit"]

    def _keep(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def _download(self, status: dict[str, Any]) -> dict[str, Path]:
        return {
            file["name"]: self._keep(file["name"], self.api.get(file["url"]).content)
            for file in status["result"]["files"]
        }

    def _caught(self, subject: str, name: str) -> Any:
        found = mail_with(self.mailbox, subject)
        if len(found) != 1:
            raise Wrong(f"{len(found)} mails were caught instead of one")
        raw, message = found[0]
        self._keep(name, raw)
        return message

    # email.send

    def _post_email(self) -> requests.Response:
        body = {
            "to": ["reader@example.com"],
            "subject": f"Water level {self.mark}",
            "text": "The level is fine.",
            "html": "<p>The level is <b>fine</b>.</p>",
            "attachments": [
                {
                    "name": "level.csv",
                    "content_type": "text/csv",
                    "content": "aG91cixtZXRyZXMKMTIsNC4yCg==",
                }
            ],
        }
        return self.api.post("/api/send-email", json=body)

    def _judge_email(self, status: dict[str, Any]) -> str:
        message = self._caught(f"Water level {self.mark}", "mail.eml")
        attachments = {part.get_filename(): part for part in message.iter_attachments()}
        if list(attachments) != ["level.csv"]:
            raise Wrong(f"attachments {list(attachments)} instead of level.csv")
        if attachments["level.csv"].get_payload(decode=True) != b"hour,metres\n12,4.2\n":
            raise Wrong("the attachment is not what was sent")
        if "<b>fine</b>" not in message.get_body(("html",)).get_content():
            raise Wrong("the HTML is not what was sent")
        return "mail.eml: text, HTML, attachment"

    # notification.send

    def _post_notification(self) -> requests.Response:
        body = {"user_id": 1, "title": f"Gate {self.mark}", "message": "The gate is open."}
        return self.api.post("/api/notifications", json=body)

    def _judge_notification(self, status: dict[str, Any]) -> str:
        user = self.api.get("/api/user/1").json()
        message = self._caught(f"Gate {self.mark}", "notification.eml")
        if user["email"] not in message["To"]:
            raise Wrong(f"went to {message['To']} instead of {user['email']}")
        return f"notification.eml: to {user['email']}"

    # image.process

    def _post_image(self) -> requests.Response:
        files = {"file": ("dam.jpg", _picture(), "image/jpeg")}
        return self.api.post(
            "/api/images", files=files, data={"renditions": json.dumps(RENDITIONS)}
        )

    def _judge_image(self, status: dict[str, Any]) -> str:
        sizes = {}
        for name, path in self._download(status).items():
            with Image.open(path) as picture:
                picture.load()
                sizes[name] = picture.size
                if picture.getexif():
                    raise Wrong(f"{name} still has metadata")
        if sizes != SIZES:
            raise Wrong(f"sizes {sizes} instead of {SIZES}")
        return ", ".join(f"{name} {width}x{height}" for name, (width, height) in sizes.items())

    # report.export

    def _post_report(self) -> requests.Response:
        return self.api.post("/api/reports", json={"dataset": "orders", "formats": ["csv", "xlsx"]})

    def _judge_report(self, status: dict[str, Any]) -> str:
        wanted = self.api.get("/api/stats").json()["orders"]
        files = self._download(status)
        with files["orders.csv"].open(newline="", encoding="utf-8") as stream:
            in_csv = sum(1 for _ in csv.reader(stream)) - 1
        with ZipFile(files["orders.xlsx"]) as book:
            in_xlsx = book.read("xl/worksheets/sheet1.xml").count(b"<row ") - 1
        if {in_csv, in_xlsx, status["result"]["rows"]} != {wanted}:
            raise Wrong(f"{in_csv} rows in CSV, {in_xlsx} in XLSX, {wanted} in the database")
        return f"orders.csv, orders.xlsx: {wanted:,} rows each"

    # payment.process

    def _post_payment(self) -> requests.Response:
        body = {"order": f"demo-{self.mark}", "amount": "19.90", "currency": "EUR"}
        return self.api.post("/api/payments", json=body)

    def _judge_payment(self, status: dict[str, Any]) -> str:
        ledger = requests.get(f"{self.provider}/ledger", timeout=10).json()
        self._keep("ledger.json", json.dumps(ledger, indent=2).encode())
        charges = [charge for charge in ledger if charge["reference"] == f"demo-{self.mark}"]
        if [(charge["amount"], charge["currency"]) for charge in charges] != [(1990, "EUR")]:
            raise Wrong(f"the ledger has {charges} instead of one charge of 19.90 EUR")
        if charges[0]["id"] != status["result"]["charge_id"]:
            raise Wrong("the result names another charge than the ledger")
        return "ledger.json: one charge of 19.90 EUR"


def _picture() -> bytes:
    """Return a photograph's like: a JPEG with an orientation and a place in its metadata."""
    red = Image.linear_gradient("L").resize(PICTURE)
    green = Image.radial_gradient("L").resize(PICTURE)
    exif = Image.Exif()
    exif[0x010F] = "Penstock"
    exif.get_ifd(0x8825).update({1: "N", 2: (46.0, 33.0, 0.0), 3: "E", 4: (8.0, 33.0, 0.0)})
    stream = io.BytesIO()
    Image.merge("RGB", (red, green, red)).save(stream, "JPEG", quality=90, exif=exif)
    return stream.getvalue()


def _show(run: Run, bars: Progress) -> None:
    total = run.status.get("total", 1)
    done = total if run.fine else run.status.get("progress", 0)
    bars.update(TaskID(run.bar), state=run.status.get("state", ""), completed=done, total=total)


def _table(runs: list[Run]) -> Table:
    table = Table("job", "queue", "state", "waited", "ran", "outcome")
    for run in runs:
        times = [run.status.get(name) for name in ("queued_at", "started_at", "finished_at")]
        queued, started, finished = times
        table.add_row(
            run.job,
            run.status.get("queue", ""),
            run.status.get("state", "")
            if run.fine
            else f"[red]{run.status.get('state', 'refused')}[/]",
            f"{started - queued:.2f} s" if queued and started else "",
            f"{finished - started:.2f} s" if started and finished else "",
            run.outcome if run.fine else f"[red]{run.outcome}[/]",
        )
    return table
