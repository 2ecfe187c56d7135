import io
from typing import Any

import pytest
from PIL import Image

from penstock_web.images import FORMATS, inspect
from penstock_web.problems import Invalid

MANY = 10**9


def picture(format_: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **how: Any) -> bytes:
    stream = io.BytesIO()
    noise = Image.effect_noise(size, 50).convert(mode)
    noise.save(stream, format_, **how)
    return stream.getvalue()


def refusal(content: bytes, claimed: str = "", max_pixels: int = MANY) -> str:
    with pytest.raises(Invalid) as caught:
        inspect(io.BytesIO(content), claimed, max_pixels)
    [(field, message)] = caught.value.errors
    assert field == "file"
    return message


@pytest.mark.parametrize(
    ("format_", "mode", "how"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("PNG", "I;16", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {}),
    ],
)
def test_a_whole_picture_is_taken_for_what_it_is(
    format_: str, mode: str, how: dict[str, Any]
) -> None:
    stream = io.BytesIO(picture(format_, mode=mode, **how))
    assert inspect(stream, "", MANY) == FORMATS[format_]
    assert stream.tell() == 0


@pytest.mark.parametrize("claimed", ["image/png", "application/octet-stream", "text/plain", ""])
def test_a_claim_counts_only_when_it_names_a_picture(claimed: str) -> None:
    assert inspect(io.BytesIO(picture("PNG")), claimed, MANY) == "image/png"


@pytest.mark.parametrize("claimed", ["image/jpeg", "image/gif", "image/svg+xml"])
def test_a_picture_that_claims_to_be_another_is_refused(claimed: str) -> None:
    message = refusal(picture("PNG"), claimed)
    assert claimed in message
    assert "image/png" in message


@pytest.mark.parametrize("format_", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
def test_a_picture_of_another_format_is_refused_with_those_that_are_taken(format_: str) -> None:
    assert "JPEG, PNG, WEBP" in refusal(picture(format_))


@pytest.mark.parametrize("content", [b"", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"\xff\xd8\xff"])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    assert "not a picture" in refusal(content)


def test_the_pixels_are_counted_to_the_last_one() -> None:
    content = picture("PNG", (100, 50))
    assert inspect(io.BytesIO(content), "", 5000) == "image/png"
    assert "100 x 50 pixels; at most 4,999" in refusal(content, max_pixels=4999)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_picture_that_lacks_its_end_is_refused(format_: str) -> None:
    content = picture(format_, (200, 200))
    for length in (len(content) // 3, len(content) - len(content) // 20):
        message = refusal(content[:length])
        assert "broken or cut off" in message or "not a picture" in message


def test_a_png_with_a_changed_byte_is_refused() -> None:
    content = bytearray(picture("PNG", (200, 200)))
    content[len(content) // 2] ^= 0xFF
    assert "broken" in refusal(bytes(content))


def test_what_stands_behind_the_picture_does_not_matter() -> None:
    assert inspect(io.BytesIO(picture("JPEG") + b"\0" * 1000), "", MANY) == "image/jpeg"
