"""The job of the image queue."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from penstock.contracts.base import Contract
from penstock.contracts.files import StoredFile

Side = Annotated[int, Field(ge=1, le=8192)]


class Rendition(Contract):
    """One picture to make of the original.

    `fit`: contain keeps the whole picture inside the box, cover fills the box and cuts what stands
    over, exact stretches. A picture is never made larger than it is with contain.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    width: Side
    height: Side
    fit: Literal["contain", "cover", "exact"] = "contain"
    format: Literal["jpeg", "png", "webp", "avif"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=100)] = 80


def have_names_of_their_own(renditions: list[Rendition]) -> list[Rendition]:
    """Return the renditions; ValueError when two would be the same file."""
    names = [rendition.name for rendition in renditions]
    if len(set(names)) < len(names):
        raise ValueError("two renditions have the same name")
    return renditions


class ImageProcess(Contract):
    """Make the renditions of an uploaded picture, turned upright and without its metadata."""

    source: StoredFile
    renditions: Annotated[
        list[Rendition],
        Field(min_length=1, max_length=10),
        AfterValidator(have_names_of_their_own),
    ]


class ImageProcessed(Contract):
    """The pictures that were made, in the order they were asked for."""

    width: int
    height: int
    files: list[StoredFile]
