"""What a job's message may hold: one pydantic model for each job.

The web tier validates a request with them before anything is queued, and the worker validates the
message again before it acts on it. They import nothing heavy, so that every service can have them.
"""

from penstock.contracts.base import shown
from penstock.contracts.email import (
    TEMPLATES,
    EmailContent,
    EmailSend,
    EmailSent,
    NotificationContent,
    NotificationSend,
    NotificationSent,
)
from penstock.contracts.files import FilesExpire, FilesExpired, StoredFile
from penstock.contracts.image import ImageProcess, ImageProcessed, Rendition
from penstock.contracts.payment import PaymentProcess, PaymentProcessed
from penstock.contracts.report import ReportExport, ReportExported

__all__ = [
    "TEMPLATES",
    "EmailContent",
    "EmailSend",
    "EmailSent",
    "FilesExpire",
    "FilesExpired",
    "ImageProcess",
    "ImageProcessed",
    "NotificationContent",
    "NotificationSend",
    "NotificationSent",
    "PaymentProcess",
    "PaymentProcessed",
    "Rendition",
    "ReportExport",
    "ReportExported",
    "StoredFile",
    "shown",
]
