"""The handlers of the report queue."""

from contextlib import ExitStack
from functools import cache

from celery import shared_task
from sqlalchemy.exc import InterfaceError, OperationalError
from xlsxwriter.exceptions import FileCreateError

from penstock.contracts import FilesExpire, FilesExpired, ReportExport, ReportExported
from penstock.database import Database
from penstock.datasets import COLUMNS, parse_filter
from penstock.storage import connect
from penstock.task import JobTask
from penstock_report.rows import stream
from penstock_report.writers import CONTENT_TYPES, WRITERS


# Celery's types know its own Task only, not the class that `penstock.install` puts in its place.
@shared_task(  # type: ignore[arg-type]
    name="report.export",
    bind=True,
    pydantic=True,
    # The database or the place for files may be away for a while. XlsxWriter has its own OSError.
    autoretry_for=(OperationalError, InterfaceError, OSError, FileCreateError),
)
def export(self: JobTask, job: ReportExport) -> ReportExported:
    """Write the data set to one file for each format, all from a single pass over its rows."""
    files = connect(self.settings)
    columns = job.columns or list(COLUMNS[job.dataset])
    filters = [parse_filter(job.dataset, text) for text in job.filters]
    database = _database(self.settings.database())
    keys = {name: f"{self.job_id}/{job.dataset}.{name}" for name in job.formats}
    written = 0
    with ExitStack() as opened:
        writers = [
            opened.enter_context(
                WRITERS[name](opened.enter_context(files.writing(key)), job.dataset, columns)
            )
            for name, key in keys.items()
        ]
        with stream(database, job.dataset, columns, filters) as (count, batches):
            for batch in batches:
                for write in writers:
                    write(batch)
                    written += len(batch)
                    self.progress(written, count * len(writers))
    return ReportExported(
        rows=count,
        files=[files.describe(key, CONTENT_TYPES[name]) for name, key in keys.items()],
    )


@shared_task(name="files.expire", bind=True, pydantic=True)  # type: ignore[arg-type]
def expire(self: JobTask, job: FilesExpire) -> FilesExpired:
    """Remove the uploads and outcomes that are older than the setting files_ttl."""
    return FilesExpired(folders=connect(self.settings).expire(self.settings.files_ttl))


# Made by the first job and not at import, so that no two processes of a pool share connections.
_database = cache(Database)
