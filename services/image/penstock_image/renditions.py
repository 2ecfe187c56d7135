"""Renditions of one picture: it is decoded once, and each rendition is shaped, coloured and saved.

What comes out holds nothing but pixels in sRGB: no EXIF, so no GPS position, no XMP, no comment, no
thumbnail and no colour profile.
"""

import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from penstock.contracts import Rendition

SOURCES = ("JPEG", "PNG", "WEBP")
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "avif": "avif"}

# This project's own limit is checked instead, on the header, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

# A JPEG can be decoded at a half, a quarter or an eighth of its size, several times faster. What is
# then still half as large again as the largest rendition differs from a full decode by less than
# saving the rendition at quality 95 does.
MARGIN = 1.5

# What Pillow's decoders raise on content that is broken.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    EOFError,
    struct.error,
    zlib.error,
)

# What brings a picture upright, by its EXIF orientation (EXIF 2.32, tag 0x0112).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {TURNS[orientation] for orientation in (5, 6, 7, 8)}

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    # Smaller, and seen whole before it has arrived whole.
    "jpeg": {"progressive": True},
    "png": {},
    "webp": {},
    # Half the time of the default, 6, at the same size and quality.
    "avif": {"speed": 8},
}

Size = tuple[int, int]


class UnusablePictureError(ValueError):
    """The upload is not a picture that renditions can be made of, now or later."""


@dataclass(frozen=True)
class Picture:
    """A picture in memory, upright: its original size, and pixels that may be fewer than that."""

    size: Size
    pixels: Image.Image
    icc_profile: bytes | None


def decode(content: bytes, renditions: Sequence[Rendition], max_pixels: int) -> Picture:
    """Return the picture in `content` with the detail that `renditions` need.

    Of an animation it is the first frame. Raises UnusablePictureError for what is no JPEG, PNG or
    WebP, for more than `max_pixels` (read from the header alone) and for what is broken.
    """
    source = _open(content, max_pixels)
    size = source.size
    try:
        if isinstance(source, JpegImageFile):
            source.draft(None, _enough(size, _turn(source), renditions))
        source.load()
    except UNREADABLE as error:
        raise UnusablePictureError(f"the picture is broken or cut off: {error}") from error
    turn = _turn(source)
    pixels = _resizable(source)
    if turn is not None:
        pixels = pixels.transpose(turn)
    return Picture(_upright(size, turn), pixels, source.info.get("icc_profile"))


def render(picture: Picture, rendition: Rendition) -> Image.Image:
    """Return the rendition, in the size and with the colours in which it is saved."""
    box = (rendition.width, rendition.height)
    if rendition.fit == "cover":
        shaped = ImageOps.fit(picture.pixels, box, Image.Resampling.LANCZOS)
    else:
        # From 3 on, the gap leaves no visible difference to resampling from all the pixels.
        shaped = picture.pixels.resize(
            _whole(picture.size, rendition), Image.Resampling.LANCZOS, reducing_gap=3
        )
    coloured = _in_srgb(shaped, picture.icc_profile)
    return _on_white(coloured) if rendition.format == "jpeg" else coloured


def save(image: Image.Image, rendition: Rendition, stream: IO[bytes]) -> None:
    """Write `image` in the rendition's format; PNG has no loss and so no quality."""
    # Pillow would write some of what the original said about itself, such as its comment.
    image.info.clear()
    image.save(
        stream,
        format=rendition.format,
        quality=rendition.quality,
        **SAVE_OPTIONS[rendition.format],
    )


def _open(content: bytes, max_pixels: int) -> ImageFile:
    try:
        source = Image.open(BytesIO(content), formats=SOURCES)
    except UNREADABLE as error:
        raise UnusablePictureError(
            f"the upload is not a picture that can be read; wanted: {', '.join(SOURCES)}"
        ) from error
    width, height = source.size
    if width * height > max_pixels:
        raise UnusablePictureError(
            f"the picture has {width:,} x {height:,} pixels; the setting image_max_pixels "
            f"takes at most {max_pixels:,}"
        )
    return source


def _turn(source: ImageFile) -> Image.Transpose | None:
    """Return what brings the picture upright, if anything."""
    try:
        return TURNS.get(source.getexif().get(ExifTags.Base.Orientation, 1))
    except UNREADABLE:
        # Broken metadata does not make a picture unusable; it is left out anyway.
        return None


def _upright(size: Size, turn: Image.Transpose | None) -> Size:
    """Return the size after the turn; the same gives the size before it."""
    return (size[1], size[0]) if turn in SIDEWAYS else size


def _whole(size: Size, rendition: Rendition) -> Size:
    """Return what the whole picture measures in the rendition, before `cover` cuts it."""
    wanted = (rendition.width, rendition.height)
    if rendition.fit == "exact":
        return wanted
    scales = [side / original for side, original in zip(wanted, size, strict=True)]
    scale = max(scales) if rendition.fit == "cover" else min(1, *scales)
    width, height = size
    return max(1, round(width * scale)), max(1, round(height * scale))


def _enough(size: Size, turn: Image.Transpose | None, renditions: Sequence[Rendition]) -> Size:
    """Return the size, as the picture lies, below which the renditions would lose detail."""
    wholes = [_whole(_upright(size, turn), rendition) for rendition in renditions]
    width = max(width for width, _ in wholes)
    height = max(height for _, height in wholes)
    return _upright((round(width * MARGIN), round(height * MARGIN)), turn)


def _resizable(image: Image.Image) -> Image.Image:
    """Return the picture in 8 bits and without a palette: L, LA, RGB, RGBA or CMYK."""
    if image.mode.startswith("I"):
        # 16 bits of grey: Pillow's own conversion takes everything above 255 for white.
        return image.point(lambda level: level / 257).convert("L")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in {"L", "LA", "RGB", "RGBA", "CMYK"} and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _in_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Return the image as its profile says that it looks: L, LA, RGB or RGBA."""
    has_alpha = image.mode in {"LA", "RGBA"}
    colours = image.convert(image.mode.removesuffix("A")) if has_alpha else image
    if icc_profile:
        # A profile that is broken or for another kind of picture says nothing about this one.
        with suppress(ImageCms.PyCMSError, OSError):
            profile = ImageCms.ImageCmsProfile(BytesIO(icc_profile))
            colours = ImageCms.buildTransform(profile, SRGB, colours.mode, "RGB").apply(colours)
    if colours.mode == "CMYK":
        colours = colours.convert("RGB")
    if has_alpha:
        colours.putalpha(image.getchannel("A"))
    return colours


def _on_white(image: Image.Image) -> Image.Image:
    """Return the image on white where it is transparent, which JPEG cannot be."""
    if image.mode not in {"LA", "RGBA"}:
        return image
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return ground
