"""The handler of the image queue."""

from celery import shared_task

from penstock.contracts import ImageProcess, ImageProcessed, StoredFile
from penstock.storage import Files, connect
from penstock.task import JobTask
from penstock_image.renditions import EXTENSIONS, decode, render, save


# Celery's types know its own Task only, not the class that `penstock.install` puts in its place.
@shared_task(  # type: ignore[arg-type]
    name="image.process",
    bind=True,
    pydantic=True,
    # The place for files may be full or away for a while; an upload that is gone stays so.
    autoretry_for=(OSError,),
    dont_autoretry_for=(FileNotFoundError,),
)
def process(self: JobTask, job: ImageProcess) -> ImageProcessed:
    """Make the renditions, each a file of the job's own."""
    files = connect(self.settings)
    content = _content(files, job.source)
    picture = decode(content, job.renditions, self.settings.image_max_pixels)
    made = []
    for done, rendition in enumerate(job.renditions, start=1):
        key = f"{self.job_id}/{rendition.name}.{EXTENSIONS[rendition.format]}"
        image = render(picture, rendition)
        with files.writing(key) as stream:
            save(image, rendition, stream)
        made.append(files.describe(key, f"image/{rendition.format}"))
        self.progress(done, len(job.renditions))
    width, height = picture.size
    return ImageProcessed(width=width, height=height, files=made)


def _content(files: Files, source: StoredFile) -> bytes:
    try:
        return files.read(source.key)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the upload {source.key!r} is not kept any more: "
            "files are kept for the setting files_ttl"
        ) from error
