"""Outcomes that are files."""

from uuid import UUID

from flask import Blueprint, Response, abort, request, send_file
from werkzeug.wsgi import FileWrapper

from penstock.storage.files import BLOCK
from penstock_web.services import services

blueprint = Blueprint("files", __name__, url_prefix="/api/files")


@blueprint.get("/<uuid:task_id>/<name>")
def download(task_id: UUID, name: str) -> Response:
    """Answer a file that a job has made, or a range of it; uploads are in another folder."""
    try:
        found, stream = services().files.open(f"{task_id}/{name}")
    except (FileNotFoundError, ValueError):
        abort(404)
    answer = send_file(
        stream,
        download_name=name,
        as_attachment=True,
        conditional=False,
        etag=found.version.strip('"'),
        last_modified=found.modified,
    )
    # A server's own wrapper cannot seek, and would read all that comes before a range.
    answer.response = FileWrapper(stream, BLOCK)
    answer.content_length = found.size
    answer.call_on_close(stream.close)
    answer.make_conditional(request.environ, accept_ranges=True, complete_length=found.size)
    return answer
