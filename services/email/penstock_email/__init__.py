"""The worker of the email queue: mail over SMTP, and notifications."""
