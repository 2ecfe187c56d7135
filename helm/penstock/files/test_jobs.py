"""Post one job of each queue to a running Penstock and wait for them: `helm test`."""

import json
import os
import struct
import sys
import time
import uuid
import zlib
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

BASE = os.environ["PENSTOCK_TEST_URL"]
KEY = Path(os.environ["PENSTOCK_API_KEY_FILE"]).read_text().strip()
DEADLINE = time.monotonic() + float(os.environ["PENSTOCK_TEST_TIMEOUT"])


def ask(path, body=None, content_type="application/json"):
    """Return status and JSON; an answer that asks for patience is asked for again."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": content_type}
    while True:
        try:
            with urlopen(Request(BASE + path, body, headers), timeout=10) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            said = f"{error.code} {error.read().decode(errors='replace')[:300]}"
            if error.code not in (502, 503):
                sys.exit(f"{path}: {said}")
        except (URLError, OSError) as error:
            said = str(error)
        if time.monotonic() > DEADLINE:
            sys.exit(f"{path}: {said}")
        time.sleep(1)


def picture():
    """Return a grey PNG of 64 x 64."""

    def chunk(kind, data):
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = zlib.compress((b"\0" + b"\x80" * 64) * 64)
    head = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def form():
    """Return the picture and what is wanted of it as a multipart body, and its type."""
    mark = uuid.uuid4().hex
    wanted = json.dumps([{"name": "thumb", "width": 32, "height": 32, "format": "png"}])
    parts = (
        ('name="renditions"', b"", wanted.encode()),
        ('name="file"; filename="test.png"', b"Content-Type: image/png\r\n", picture()),
    )
    body = b"".join(
        f"--{mark}\r\nContent-Disposition: form-data; {name}\r\n".encode()
        + kind
        + b"\r\n"
        + content
        + b"\r\n"
        for name, kind, content in parts
    )
    return body + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def post(path, **body):
    return ask(path, json.dumps(body).encode())[1]


jobs = {"image": ask("/api/images", *form())[1]}
jobs["report"] = post("/api/reports", dataset="articles", formats=["csv"])
if to := os.environ.get("PENSTOCK_TEST_MAIL_TO"):
    jobs["email"] = post("/api/send-email", to=[to], subject="Penstock's test", text="It works.")
if os.environ.get("PENSTOCK_TEST_PAYMENT") == "true":
    order = f"helm-test-{uuid.uuid4().hex}"
    jobs["payment"] = post("/api/payments", order=order, amount="1.00", currency="EUR")

for queue, job in jobs.items():
    while (answer := ask(job["status_url"]))[0] == 202:
        if time.monotonic() > DEADLINE:
            sys.exit(f"{queue}: has not ended: {answer[1]}")
        time.sleep(0.5)
    if answer[1]["state"] != "SUCCESS":
        sys.exit(f"{queue}: {answer[1]}")
    print(f"{queue}: {answer[1]['job']} succeeded", flush=True)
