"""The handlers of the email queue."""

from celery import shared_task

from penstock.contracts import EmailSend, EmailSent, NotificationSend, NotificationSent
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
    autoretry_for=(MailServerUnavailableError, ProviderUnavailableError),
)
def notify(self: JobTask, job: NotificationSend) -> NotificationSent:
    """Tell a user something: through the provider at the setting notification_url, or by mail."""
    if url := self.settings.notification_url:
        body = job.model_dump()
        timeout = self.settings.http_timeout
        self.once(
            "notify",
            lambda: post_once(url, body, idempotency_key=self.job_id, timeout=timeout).status_code,
            released_by=(ProviderNotReachedError, ProviderRefusedError),
        )
        return NotificationSent(user_id=job.user_id, channel="provider")
    context = {"name": job.name, "title": job.title, "message": job.message}
    _send(
        EmailSend(to=[job.email], subject=job.title, template="notification", context=context), self
    )
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
