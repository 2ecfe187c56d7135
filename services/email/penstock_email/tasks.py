"""The handlers of the email queue."""

from functools import cache

from celery import shared_task
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from penstock.contracts import EmailSend, EmailSent, NotificationSend, NotificationSent
from penstock.database import Database, User
from penstock.http import (
    ProviderNotReachedError,
    ProviderRefusedError,
    ProviderUnavailableError,
    post_once,
)
from penstock.storage import StorageError, connect
from penstock.task import JobTask
from penstock_email.message import compose
from penstock_email.smtp import (
    MailNotTakenError,
    MailRefusedError,
    MailServerUnavailableError,
    deliver,
)


# Celery's types know its own Task only, not the class that `penstock.install` puts in its place.
@shared_task(  # type: ignore[arg-type]
    name="email.send",
    bind=True,
    pydantic=True,
    autoretry_for=(MailServerUnavailableError, StorageError),
)
def send(self: JobTask, job: EmailSend) -> EmailSent:
    """Send one mail to all of its recipients, or to none."""
    return _send(job, self)


@shared_task(  # type: ignore[arg-type]
    name="notification.send",
    bind=True,
    pydantic=True,
    autoretry_for=(MailServerUnavailableError, OperationalError, ProviderUnavailableError),
)
def notify(self: JobTask, job: NotificationSend) -> NotificationSent:
    """Tell a user something: through the provider at the setting notification_url, or by mail."""
    name, email = _user(job.user_id, self.settings.database())
    if url := self.settings.notification_url:
        body = {**job.model_dump(), "name": name, "email": email}
        timeout = self.settings.http_timeout
        self.once(
            "notify",
            lambda: post_once(url, body, idempotency_key=self.job_id, timeout=timeout).status_code,
            released_by=(ProviderNotReachedError, ProviderRefusedError),
        )
        return NotificationSent(user_id=job.user_id, channel="provider")
    context = {"name": name, "title": job.title, "message": job.message}
    _send(EmailSend(to=[email], subject=job.title, template="notification", context=context), self)
    return NotificationSent(user_id=job.user_id, channel="mail")


def _send(email: EmailSend, task: JobTask) -> EmailSent:
    settings = task.settings
    mail = compose(email, task.job_id, settings.mail_from, connect(settings))
    task.once(
        "send",
        lambda: deliver(mail, settings),
        released_by=(MailNotTakenError, MailRefusedError),
    )
    return EmailSent(
        message_id=mail.message_id, recipients=len(mail.recipients), size=len(mail.content)
    )


def _user(user_id: int, database_url: str) -> tuple[str, str]:
    """Return the user's name and address; LookupError where there is no such user."""
    wanted = select(User.name, User.email).where(User.id == user_id)
    with _database(database_url).session() as session:
        found = session.execute(wanted).one_or_none()
    if found is None:
        raise LookupError(f"there is no user with the id {user_id}")
    name, email = found
    return name, email


# Made by the first job and not at import, so that no two processes of a pool share connections.
_database = cache(Database)
