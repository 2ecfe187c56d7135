"""Renditions, made of real files and looked at as files."""

import struct
import zlib
from io import BytesIO
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageStat, PngImagePlugin

from penstock.contracts import Rendition
from penstock_image.renditions import TURNS, UnusablePictureError, decode, render, save

MAX_PIXELS = 50_000_000
SECRET = "SECRET"
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255,) * 3, (0,) * 3


def rendition(width: int, height: int, **options: Any) -> Rendition:
    return Rendition(name="small", width=width, height=height, **options)


def encoded(image: Image.Image, source: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, source, **options)
    return stream.getvalue()


def made(content: bytes, wanted: Rendition, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the rendition as whoever opens the file sees it."""
    stream = BytesIO()
    save(render(decode(content, [wanted], max_pixels), wanted), wanted, stream)
    image = Image.open(BytesIO(stream.getvalue()))
    image.load()
    return image


def quarters(width: int = 320, height: int = 240) -> Image.Image:
    """Return a picture that is red, green, blue and white from the top left to the bottom right."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def colours(image: Image.Image) -> list[tuple[int, ...]]:
    """Return the four quarters' colours, each channel rounded to 0, 128 or 255."""
    image = image.convert("RGB")
    width, height = image.size
    points = [(x, y) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    return [tuple(map(rounded, pixel(image, point))) for point in points]


def pixel(image: Image.Image, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    value = image.getpixel(at)
    assert isinstance(value, tuple)
    return value


def rounded(level: int) -> int:
    return min((0, 128, 255), key=lambda wanted: abs(wanted - level))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(
    width: int, height: int, depth: int, colour_type: int, lines: bytes, more: bytes = b""
) -> bytes:
    """Return a PNG of `lines`, each with its filter byte; for kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + more
        + png_chunk(b"IDAT", zlib.compress(lines))
        + png_chunk(b"IEND", b"")
    )


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


@pytest.mark.parametrize("target", ["jpeg", "png", "webp", "avif"])
@pytest.mark.parametrize(
    ("fit", "size"), [("contain", (100, 75)), ("cover", (100, 90)), ("exact", (100, 90))]
)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP"])
def test_a_rendition_has_the_size_and_the_format_that_were_asked(
    source: str, fit: str, size: tuple[int, int], target: str
) -> None:
    image = made(encoded(quarters(), source), rendition(100, 90, fit=fit, format=target))

    assert image.size == size
    assert image.format == target.upper()
    assert colours(image) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    ("original", "box", "size"),
    [
        ((320, 240), (1000, 1000), (320, 240)),
        ((320, 240), (320, 240), (320, 240)),
        ((320, 240), (1000, 120), (160, 120)),
        ((1000, 1), (100, 100), (100, 1)),
        ((1, 1000), (100, 100), (1, 100)),
        ((999, 333), (100, 100), (100, 33)),
    ],
)
def test_contain_keeps_the_whole_picture_inside_the_box_and_never_enlarges_it(
    original: tuple[int, int], box: tuple[int, int], size: tuple[int, int]
) -> None:
    content = encoded(Image.new("RGB", original), "PNG")

    assert made(content, rendition(*box)).size == size


@pytest.mark.parametrize("source", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "bar", "seen"),
    [
        ((900, 300), (400, 0, 500, 300), (30, 0, 60, 90)),
        ((300, 900), (0, 400, 300, 500), (0, 30, 90, 60)),
    ],
)
def test_cover_cuts_the_same_from_both_sides(
    source: str, size: tuple[int, int], bar: tuple[int, int, int, int], seen: object
) -> None:
    image = Image.new("L", size, 0)
    image.paste(255, bar)

    square = made(encoded(image, source), rendition(90, 90, fit="cover", format="png"))

    assert square.convert("L").point(lambda level: 255 * (level > 127)).getbbox() == seen


@pytest.mark.parametrize("fit", ["cover", "exact"])
def test_cover_and_exact_enlarge_a_picture_that_is_too_small(fit: str) -> None:
    image = made(encoded(quarters(4, 4), "PNG"), rendition(200, 100, fit=fit, format="png"))

    assert image.size == (200, 100)
    assert colours(image) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [*TURNS, 1, 99])
def test_the_exif_orientation_comes_out_upright(source: str, orientation: int) -> None:
    upright = quarters()
    lying = upright
    if orientation in TURNS:
        # The two quarter turns undo each other; every other turn undoes itself.
        undo = TURNS[{6: 8, 8: 6}.get(orientation, orientation)]
        lying = upright.transpose(undo)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    wanted = rendition(80, 80)

    content = encoded(lying, source, exif=exif)

    assert decode(content, [wanted], MAX_PIXELS).size == (320, 240)
    assert made(content, wanted).size == (80, 60)
    assert colours(made(content, wanted)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("source", ["PNG", "WEBP"])
def test_broken_metadata_does_not_make_a_picture_unusable(source: str) -> None:
    content = encoded(quarters(), source, exif=b"Exif\0\0garbage!")

    assert colours(made(content, rendition(80, 60))) == [RED, GREEN, BLUE, WHITE]


def with_every_metadata(source: str) -> bytes:
    image = quarters()
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = SECRET
    exif[ExifTags.Base.Make] = SECRET
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef] = "N"
    gps[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    gps[ExifTags.GPS.GPSAreaInformation] = SECRET.encode()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"exif": exif, "icc_profile": profile}
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()
    if source == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", SECRET)
        text.add_text("Author", SECRET, zip=True)
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        return encoded(image, source, **options, pnginfo=text, dpi=(72, 72))
    if source == "WEBP":
        return encoded(image, source, **options, xmp=xmp)
    content = encoded(image, source, **options, xmp=xmp, comment=SECRET.encode(), dpi=(72, 72))
    # IPTC, as newsrooms write it, in an APP13 segment behind the start of the file.
    iptc = (
        b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0c\x1c\x02\x05\0\x06" + SECRET.encode() + b"\0"
    )
    segment = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    return content[:2] + segment + content[2:]


def parts(content: bytes) -> set[str]:
    """Return the names of a JPEG's segments, or of a PNG's or a WebP's chunks."""
    found = set()
    if content.startswith(b"\xff\xd8"):
        at = 2
        while content[at + 1] != 0xDA:
            found.add(f"{content[at + 1]:02X}")
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        return found
    is_png = content.startswith(b"\x89PNG")
    at = 8 if is_png else 12
    while at < len(content):
        if is_png:
            size, name = struct.unpack_from(">I4s", content, at)
            at += 12 + size
        else:
            name, size = struct.unpack_from("<4sI", content, at)
            at += 8 + size + size % 2
        found.add(name.decode())
    return found


# Tables, frames and scans of a JPEG, the JFIF header, and nothing else.
PIXELS_ALONE = {
    "jpeg": {"E0", "DB", "C2", "C4"},
    "png": {"IHDR", "IDAT", "IEND"},
    "webp": {"VP8 ", "VP8L"},
}


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP"])
def test_the_pictures_that_these_tests_strip_do_tell_where_they_were_taken(source: str) -> None:
    content = with_every_metadata(source)
    image = Image.open(BytesIO(content))
    image.load()

    assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude]
    assert {"icc_profile", "exif"} <= image.info.keys()
    assert content.count(SECRET.encode()) >= 4


@pytest.mark.parametrize("target", ["jpeg", "png", "webp", "avif"])
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP"])
# At its own size nothing is resampled, which is another way through Pillow.
@pytest.mark.parametrize("width", [100, 320])
def test_no_metadata_is_left_in_a_rendition(source: str, target: str, width: int) -> None:
    wanted = rendition(width, width, format=target)
    stream = BytesIO()
    content = with_every_metadata(source)
    save(render(decode(content, [wanted], MAX_PIXELS), wanted), wanted, stream)
    image = Image.open(stream)
    image.load()

    assert not image.getexif()
    assert not image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    assert not {"exif", "xmp", "icc_profile", "comment", "photoshop"} & image.info.keys()
    assert SECRET.encode() not in stream.getvalue()
    if target in PIXELS_ALONE:
        assert parts(stream.getvalue()) <= PIXELS_ALONE[target]


def swapped_profile() -> bytes:
    """Return sRGB with red and green changed for each other."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    names = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    count = int.from_bytes(profile[128:132], "big")
    table = bytearray(profile)
    for at in range(132, 132 + 12 * count, 12):
        name = profile[at : at + 4]
        table[at : at + 4] = names.get(name, name)
    return bytes(table)


@pytest.mark.parametrize(
    ("source", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGBA")]
)
@pytest.mark.parametrize("target", ["jpeg", "png", "webp", "avif"])
def test_a_colour_profile_is_applied_before_it_is_left_out(
    source: str, mode: str, target: str
) -> None:
    content = encoded(quarters().convert(mode), source, icc_profile=swapped_profile(), quality=95)

    assert colours(made(content, rendition(80, 60, format=target))) == [GREEN, RED, BLUE, WHITE]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("profile", [b"garbage", swapped_profile()[:200]])
def test_a_broken_colour_profile_is_ignored(mode: str, profile: bytes) -> None:
    grey = Image.new("RGB", (40, 40), (128,) * 3).convert(mode)

    image = made(encoded(grey, "JPEG", icc_profile=profile, quality=95), rendition(20, 20))

    assert colours(image) == [(128,) * 3] * 4


def test_a_profile_for_another_kind_of_picture_is_ignored() -> None:
    # An sRGB profile in a grey picture, as some editors leave it.
    grey = Image.new("L", (40, 40), 128)

    image = made(
        encoded(grey, "JPEG", icc_profile=swapped_profile(), quality=95), rendition(20, 20)
    )

    assert colours(image) == [(128,) * 3] * 4


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_jpeg_is_white_where_the_picture_was_transparent(mode: str) -> None:
    # Transparent black, as most editors write it.
    image = Image.new(mode, (40, 40), (0,) * len(mode))
    image.paste((0,) * (len(mode) - 1) + (255,), (20, 0, 40, 40))

    flat = made(encoded(image, "PNG"), rendition(20, 20, quality=95))

    assert flat.mode in {"RGB", "L"}
    assert colours(flat) == [WHITE, BLACK, WHITE, BLACK]


def test_half_transparent_is_mixed_with_white() -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 128))

    assert colours(made(encoded(image, "PNG"), rendition(20, 20))) == [(128,) * 3] * 4


@pytest.mark.parametrize("target", ["png", "webp", "avif"])
def test_other_formats_stay_transparent(target: str) -> None:
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 255))
    image.paste((255, 0, 0, 0), (20, 0, 40, 40))

    clear = made(encoded(image, "PNG"), rendition(20, 20, format=target, quality=95))

    assert clear.mode == "RGBA"
    assert rounded(pixel(clear, (4, 10))[3]) == 255
    assert rounded(pixel(clear, (16, 10))[3]) == 0


def test_what_is_hidden_by_transparency_does_not_bleed_into_the_edges() -> None:
    image = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (130, 130, 270, 270))

    flat = made(encoded(image, "PNG"), rendition(33, 33, format="png"))

    seen = [pixel(flat, (x, y)) for x in range(33) for y in range(33)]
    assert all(red >= 250 for red, _, _, alpha in seen if alpha > 8)


def test_a_palette_with_a_transparent_colour_is_read() -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([*RED, *GREEN])
    image.paste(1, (20, 0, 40, 40))

    flat = made(encoded(image, "PNG", transparency=0), rendition(20, 20, format="jpeg"))

    assert colours(flat) == [WHITE, GREEN, WHITE, GREEN]


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA"])
def test_palettes_and_shades_of_grey_are_read(mode: str) -> None:
    image = Image.new("RGB", (40, 40), WHITE)
    image.paste(BLACK, (20, 0, 40, 40))

    for target in ("jpeg", "png", "webp", "avif"):
        seen = made(encoded(image.convert(mode), "PNG"), rendition(20, 20, format=target))
        assert colours(seen) == [WHITE, BLACK, WHITE, BLACK]


def test_a_palette_is_resampled_and_not_merely_thinned_out() -> None:
    stripes = Image.new("L", (200, 200), 0)
    for x in range(0, 200, 2):
        stripes.paste(255, (x, 0, x + 1, 200))

    image = made(encoded(stripes.convert("P"), "PNG"), rendition(20, 20, format="png"))

    assert colours(image) == [(128,) * 3] * 4


def test_cmyk_comes_out_in_rgb() -> None:
    content = encoded(quarters().convert("CMYK"), "JPEG", quality=95)
    assert Image.open(BytesIO(content)).mode == "CMYK"

    for target in ("jpeg", "png", "webp", "avif"):
        image = made(content, rendition(80, 60, format=target))
        assert image.mode == "RGB"
        assert colours(image) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    ("colour_type", "levels", "seen"),
    [
        (0, [0x8080], (128, 128, 128)),
        (0, [0xFFFF], WHITE),
        (0, [0x0101], (1, 1, 1)),
        (2, [0xFFFF, 0x8080, 0], (255, 128, 0)),
        (4, [0x8080, 0xFFFF], (128, 128, 128, 255)),
        (6, [0xFFFF, 0x8080, 0, 0x8080], (255, 128, 0, 128)),
    ],
)
def test_sixteen_bits_come_out_as_the_same_shades_in_eight(
    colour_type: int, levels: list[int], seen: tuple[int, ...]
) -> None:
    line = b"\0" + struct.pack(f">{len(levels)}H", *levels) * 4
    content = png(4, 4, 16, colour_type, line * 4)

    image = made(content, rendition(4, 4, format="png"))

    assert pixel(image.convert("RGBA" if len(seen) == 4 else "RGB")) == seen


def test_grey_with_a_transparent_shade_is_read() -> None:
    # In eight bits a shade can be marked transparent; the tRNS chunk names it.
    lines = (b"\0" + b"\x80" * 4) * 4
    content = png(4, 4, 8, 0, lines, more=png_chunk(b"tRNS", b"\0\x80"))

    assert pixel(made(content, rendition(2, 2, format="png")))[3] == 0


def test_a_jpeg_is_decoded_no_larger_than_needed_and_looks_the_same() -> None:
    noise = Image.effect_noise((200, 150), 80).resize((1600, 1200), Image.Resampling.BICUBIC)
    original = Image.merge("RGB", (noise, noise.point(lambda level: level // 2 + 60), noise))
    content = encoded(original, "JPEG", quality=95)
    wanted = rendition(410, 410)

    picture = decode(content, [wanted], MAX_PIXELS)

    assert picture.size == (1600, 1200)
    assert picture.pixels.size == (800, 600)
    full = Image.open(BytesIO(content)).resize((410, 308), Image.Resampling.LANCZOS)
    difference = ImageStat.Stat(ImageChops.difference(full, render(picture, wanted)))
    assert max(difference.rms) < 2


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("box", [(1600, 400), (1500, 20), (20, 300)])
def test_a_jpeg_is_decoded_as_large_as_the_largest_rendition_needs(
    orientation: int, box: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(Image.new("RGB", (1600, 400)), "JPEG", exif=exif)
    upright, wanted = ((1600, 400), box) if orientation == 1 else ((400, 1600), box[::-1])

    picture = decode(content, [rendition(10, 10), rendition(*wanted, fit="exact")], MAX_PIXELS)

    assert picture.size == upright
    assert picture.pixels.size == upright


def test_the_proportions_are_the_originals_and_not_those_it_was_decoded_in() -> None:
    content = encoded(Image.new("RGB", (1609, 60)), "JPEG")
    wanted = rendition(90, 90)

    # An eighth of 60 rows is 8 rows, which would make a rendition of 4.
    assert decode(content, [wanted], MAX_PIXELS).pixels.size == (202, 8)
    assert made(content, wanted).size == (90, 3)


@pytest.mark.parametrize("target", ["jpeg", "webp", "avif"])
def test_a_lower_quality_makes_a_smaller_file(target: str) -> None:
    content = encoded(Image.effect_noise((200, 200), 80), "PNG")

    def size(quality: int) -> int:
        wanted = rendition(200, 200, format=target, quality=quality)
        stream = BytesIO()
        save(render(decode(content, [wanted], MAX_PIXELS), wanted), wanted, stream)
        return len(stream.getvalue())

    assert size(20) < size(60) < size(95)


@pytest.mark.parametrize("source", ["PNG", "WEBP"])
def test_the_first_frame_of_an_animation_counts(source: str) -> None:
    more = [Image.new("RGB", (320, 240), BLACK)]
    content = encoded(quarters(), source, save_all=True, append_images=more, duration=100)

    assert colours(made(content, rendition(80, 60))) == [RED, GREEN, BLUE, WHITE]


def test_a_photo_that_carries_further_pictures_counts_as_the_first() -> None:
    # Phones write the depth or a second view behind the photo (multi-picture format).
    more = [Image.new("RGB", (320, 240), BLACK)]
    content = encoded(quarters(), "MPO", save_all=True, append_images=more)

    image = made(content, rendition(80, 60, format="jpeg"))

    assert image.format == "JPEG"
    assert colours(image) == [RED, GREEN, BLUE, WHITE]


def header_alone(source: str, width: int, height: int) -> bytes:
    """Return a small file that claims to be `width` x `height` pixels."""
    if source == "PNG":
        return png(width, height, 8, 2, bytes(1000))
    small = encoded(quarters(), source)
    if source == "JPEG":
        frame = small.index(b"\xff\xc0") + 5
        return small[:frame] + struct.pack(">HH", height, width) + small[frame + 4 :]
    # An animation's canvas is as large as it says; its only frame is small.
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame_size = (319).to_bytes(3, "little") + (239).to_bytes(3, "little")
    body = (
        b"WEBP"
        + webp_chunk(b"VP8X", b"\x02\0\0\0" + sizes)
        + webp_chunk(b"ANIM", bytes(6))
        + webp_chunk(b"ANMF", bytes(6) + frame_size + bytes(4) + small[12:])
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("source", "width", "height"),
    [("PNG", 40_000, 40_000), ("JPEG", 40_000, 40_000), ("WEBP", 16_000, 16_000)],
)
def test_a_picture_that_claims_too_many_pixels_is_refused_by_its_header(
    source: str, width: int, height: int
) -> None:
    content = header_alone(source, width, height)
    assert len(content) < 5000

    # Were it decoded it would be called broken, for there are no such pixels in it.
    with pytest.raises(
        UnusablePictureError,
        match=f"has {width:,} x {height:,} pixels; the setting image_max_pixels takes at most "
        "50,000,000",
    ):
        decode(content, [rendition(100, 100)], MAX_PIXELS)


def test_exactly_as_many_pixels_as_the_limit_are_taken() -> None:
    content = encoded(quarters(), "JPEG")

    assert made(content, rendition(80, 80), max_pixels=320 * 240).size == (80, 60)
    with pytest.raises(UnusablePictureError, match=r"320 x 240 .* at most 76,799"):
        made(content, rendition(80, 80), max_pixels=320 * 240 - 1)


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_picture_is_refused(source: str, share: float) -> None:
    content = encoded(Image.effect_noise((320, 240), 80).convert("RGB"), source)
    # The whole one is fine.
    made(content, rendition(80, 80))

    with pytest.raises(UnusablePictureError, match=r"broken or cut off|not a picture"):
        made(content[: int(len(content) * share)], rendition(80, 80))


def test_a_picture_with_a_damaged_middle_is_refused() -> None:
    content = bytearray(encoded(quarters(), "PNG"))
    content[len(content) // 2] ^= 0xFF

    with pytest.raises(UnusablePictureError, match="broken or cut off"):
        made(bytes(content), rendition(80, 80))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"Dear sir or madam", id="text"),
        pytest.param(b"\xff\xd8\xff", id="the first bytes of a JPEG"),
        pytest.param(b"\x89PNG\r\n\x1a\n", id="the first bytes of a PNG"),
        pytest.param(encoded(Image.new("RGB", (8, 8)), "GIF"), id="GIF"),
        pytest.param(encoded(Image.new("RGB", (8, 8)), "BMP"), id="BMP"),
        pytest.param(encoded(Image.new("RGB", (8, 8)), "TIFF"), id="TIFF"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG"),
    ],
)
def test_what_is_no_jpeg_png_or_webp_is_refused(content: bytes) -> None:
    with pytest.raises(UnusablePictureError, match="wanted: JPEG, PNG, WEBP"):
        decode(content, [rendition(10, 10)], MAX_PIXELS)
