"""Where files are kept: uploads on their way in, outcomes on their way out.

The web tier and the workers share one place, which the setting `files` names: a folder, a bucket of
S3, or a Redis server. What all three promise is said in `penstock.storage.files`.
"""

from pathlib import Path
from urllib.parse import urlsplit

from penstock.settings import Settings
from penstock.storage.files import Files, Stat, StorageError, StorageFullError

__all__ = ["Files", "Stat", "StorageError", "StorageFullError", "connect"]


def connect(settings: Settings) -> Files:
    """Return the place that `settings` name; nothing is asked of it yet.

    Raises ImportError where S3 is wanted and the extra `s3` is not installed.
    """
    scheme = urlsplit(settings.files).scheme
    if scheme == "s3":
        # Half of the services have no need of it, and it is the largest thing that they would load.
        from penstock.storage.s3 import Bucket

        return Bucket.connect(settings)
    if scheme:
        from penstock.storage.chunks import Chunks

        return Chunks.connect(settings)
    from penstock.storage.folder import Folder

    return Folder(Path(settings.files))
