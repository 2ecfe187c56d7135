"""The handler of the image queue, with real files and real records."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image
from redis import Redis

import penstock_image.tasks  # noqa: F401 - its tasks are shared with every app
from penstock.records import Record, Records, State
from penstock.settings import Settings
from penstock.stack import make_app
from penstock.storage.folder import Folder

JOB = "5b1f0f9e-2a57-4a55-9df2-3d3c8d4b6c11"


def photo() -> bytes:
    """Return a photo that was taken with the camera on its side."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stream = BytesIO()
    Image.effect_noise((480, 640), 60).convert("RGB").save(stream, "JPEG", exif=exif)
    return stream.getvalue()


PHOTO = photo()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        broker_url=f"{redis_url}/0",
        results_url=f"{redis_url}/1",
        files=tmp_path / "files",
        retry_scale=0,
    )


def process(settings: Settings, content: bytes | None, **changes: Any) -> Record:
    """Run the job as a worker does and return what its record says in the end."""
    files = Folder(Path(settings.files))
    key = f"{JOB}-in/original"
    if content is not None:
        with files.writing(key) as stream:
            stream.write(content)
    job = {
        "source": {"key": key, "name": "photo", "content_type": "image/jpeg", "size": 1},
        "renditions": [
            {"name": "large", "width": 200, "height": 200},
            {"name": "small", "width": 40, "height": 40, "fit": "cover", "format": "avif"},
            {"name": "wide", "width": 90, "height": 10, "fit": "exact", "format": "webp"},
            {"name": "flat", "width": 30, "height": 30, "format": "png"},
        ],
        **changes,
    }
    app = make_app(settings)
    # Run again under the same id, it would be a late run of a job that has ended.
    Redis.from_url(settings.results_url).flushdb()
    app.tasks["image.process"].apply(kwargs={"job": job}, task_id=JOB)
    record = Records.connect(settings).read(JOB)
    assert record is not None
    return record


def test_every_rendition_is_a_file_of_the_jobs_own(settings: Settings) -> None:
    record = process(settings, PHOTO)

    assert record.state is State.SUCCESS
    assert record.result is not None
    assert (record.result["width"], record.result["height"]) == (640, 480)
    seen = []
    for made in record.result["files"]:
        path = Path(settings.files) / made["key"]
        with Image.open(path) as image:
            seen.append((made["key"], made["name"], made["content_type"], image.size))
            assert image.format == made["content_type"].partition("/")[2].upper()
        assert path.stat().st_size == made["size"]
    assert seen == [
        (f"{JOB}/large.jpg", "large.jpg", "image/jpeg", (200, 150)),
        (f"{JOB}/small.avif", "small.avif", "image/avif", (40, 40)),
        (f"{JOB}/wide.webp", "wide.webp", "image/webp", (90, 10)),
        (f"{JOB}/flat.png", "flat.png", "image/png", (30, 22)),
    ]


def test_the_progress_counts_the_renditions(settings: Settings) -> None:
    record = process(settings, PHOTO)

    assert (record.progress, record.total) == (4, 4)


def test_a_job_that_runs_again_leaves_the_same_files(settings: Settings) -> None:
    first = process(settings, PHOTO)
    again = process(settings, PHOTO)

    assert again.result == first.result
    assert len(list((Path(settings.files) / JOB).iterdir())) == 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PHOTO[:5000], "UnusablePictureError: the picture is broken or cut off: "),
        (b"no picture", "UnusablePictureError: the upload is not a picture that can be read"),
    ],
)
def test_an_upload_that_cannot_be_used_fails_at_once_with_the_reason(
    settings: Settings, content: bytes, reason: str
) -> None:
    record = process(settings, content)

    assert record.state is State.DEAD
    assert record.attempts == 1
    assert (record.error or "").startswith(reason)
    assert not (Path(settings.files) / JOB).exists()


def test_a_picture_over_the_pixel_limit_fails_with_the_setting(settings: Settings) -> None:
    record = process(settings.model_copy(update={"image_max_pixels": 1000}), PHOTO)

    assert record.state is State.DEAD
    assert "480 x 640 pixels; the setting image_max_pixels takes at most 1,000" in str(record.error)


def test_the_next_job_runs_after_one_that_failed(settings: Settings) -> None:
    assert process(settings, PHOTO[:5000]).state is State.DEAD

    assert process(settings, PHOTO).state is State.SUCCESS


def test_an_upload_that_is_gone_fails_at_once(settings: Settings) -> None:
    record = process(settings, None)

    assert record.state is State.DEAD
    assert record.attempts == 1
    assert f"the upload '{JOB}-in/original' is not kept any more" in str(record.error)


def test_a_place_for_files_that_cannot_be_written_to_is_tried_again(settings: Settings) -> None:
    Path(settings.files).mkdir()
    # A file stands where the job's folder must be.
    (Path(settings.files) / JOB).touch()

    record = process(settings, PHOTO)

    assert record.state is State.DEAD
    assert record.attempts == 4
    assert "StorageError: the folder for files: " in str(record.error)


def test_a_message_that_breaks_the_contract_fails_at_once(settings: Settings) -> None:
    record = process(settings, PHOTO, renditions=[])

    assert record.state is State.DEAD
    assert record.attempts == 1
    assert "renditions" in str(record.error)
