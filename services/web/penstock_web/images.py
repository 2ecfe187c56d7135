"""Uploaded pictures, looked at closely enough to refuse what no worker could use."""

import shutil
from typing import IO, Annotated

from flask import Blueprint, Response, request
from PIL import Image
from pydantic import AfterValidator, Field, Json

from penstock.contracts import ImageProcess, Rendition, StoredFile
from penstock.contracts.base import Contract
from penstock.contracts.image import have_names_of_their_own
from penstock.producer import new_id
from penstock_web.jobs import accept
from penstock_web.problems import Invalid, check
from penstock_web.services import services

blueprint = Blueprint("images", __name__, url_prefix="/api/images")

FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}

# What is made of a picture when the request does not say: something to show in three places.
RENDITIONS = [
    Rendition(name="large", width=1024, height=1024),
    Rendition(name="medium", width=512, height=512),
    Rendition(name="small", width=128, height=128, fit="cover"),
]

# This project's own limit is checked instead, on the header, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None


class ImageForm(Contract):
    """The fields of the upload beside its file."""

    renditions: Json[
        Annotated[
            list[Rendition],
            Field(min_length=1, max_length=10),
            AfterValidator(have_names_of_their_own),
        ]
    ] = RENDITIONS


@blueprint.post("")
def process_image() -> tuple[Response, int, dict[str, str]]:
    """Accept a picture: multipart, the part `file` and, if wanted, `renditions` as JSON."""
    if set(request.files) != {"file"} or len(request.files.getlist("file")) != 1:
        raise Invalid(("file", "one file is wanted, as the part `file` of multipart/form-data"))
    form = check(ImageForm, request.form.to_dict())
    upload = request.files["file"]
    content_type = inspect(upload.stream, upload.mimetype, services().settings.image_max_pixels)
    job_id = new_id()
    files = services().files
    with files.uploading(job_id) as folder:
        key = f"{folder}/original"
        with files.writing(key) as stream:
            shutil.copyfileobj(upload.stream, stream)
        source: StoredFile = files.describe(key, content_type)
        return accept(ImageProcess(source=source, renditions=form.renditions), job_id)


def inspect(stream: IO[bytes], claimed: str, max_pixels: int) -> str:
    """Return the content type of the picture in `stream`, and leave the stream at its beginning.

    Raises Invalid for what is no picture, a broken or truncated one, one of another type than
    `claimed`, and one with more than `max_pixels`, which is read from the header alone.
    """
    wanted = ", ".join(FORMATS)
    try:
        picture = Image.open(stream, formats=list(FORMATS))
    except Exception:  # decoders raise errors of many kinds on what they cannot read
        raise Invalid(("file", f"is not a picture that can be read; wanted: {wanted}")) from None
    content_type = FORMATS[picture.format or ""]
    if claimed.startswith("image/") and claimed != content_type:
        raise Invalid(("file", f"says that it is {claimed}, but it is {content_type}"))
    width, height = picture.size
    if width * height > max_pixels:
        raise Invalid(
            ("file", f"has {width:,} x {height:,} pixels; at most {max_pixels:,} are taken")
        )
    try:
        if picture.format == "PNG":
            picture.verify()
        else:
            # An eighth of the size is enough to read a JPEG to its end, in a fraction of the time.
            picture.draft("RGB", (1, 1))
            picture.load()
    except Exception:
        raise Invalid(("file", "is a picture, but broken or cut off")) from None
    stream.seek(0)
    return content_type
