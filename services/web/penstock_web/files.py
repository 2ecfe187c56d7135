"""Outcomes that are files."""

from uuid import UUID

from flask import Blueprint, Response, send_from_directory

from penstock_web.services import services

blueprint = Blueprint("files", __name__, url_prefix="/api/files")


@blueprint.get("/<uuid:task_id>/<name>")
def download(task_id: UUID, name: str) -> Response:
    """Answer a file that a job has made; a job's uploads are in another folder."""
    folder = services().files.path(str(task_id))
    return send_from_directory(folder, name, as_attachment=True)
