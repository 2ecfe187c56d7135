"""The header Idempotency-Key: a request that carries it can be made again and is accepted once.

As the IETF draft "The Idempotency-Key HTTP Header Field" has it; the key is taken as it stands.
"""

import json
import re
from hashlib import file_digest, sha256

from flask import request

from penstock.gate import Once
from penstock_web.problems import Invalid

HEADER = "Idempotency-Key"


def once() -> Once | None:
    """Return the current request's key and what it stands for, or None where it has no key.

    Call it when the request has been validated. Raises Invalid for a malformed key.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise Invalid((HEADER, "must be 1 to 255 visible ASCII characters"))
    return Once(key, _fingerprint())


def _fingerprint() -> str:
    """Return a digest of what the request asks for, however it is written.

    Two bodies of the same JSON, or multipart forms with other boundaries, ask for the same.
    """
    if request.mimetype == "multipart/form-data":
        said: object = [sorted(request.form.items(multi=True)), sorted(_digests())]
    else:
        said = json.loads(request.get_data())
    text = json.dumps([request.path, said], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def _digests() -> list[tuple[str, str]]:
    digests = []
    for name, file in request.files.items(multi=True):
        file.stream.seek(0)
        digests.append((name, file_digest(file.stream, "sha256").hexdigest()))  # type: ignore[arg-type]
    return digests
