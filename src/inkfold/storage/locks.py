"""Locks on files that die with their process; a file system that has none is named, with a way on."""

import errno

import filelock

from inkfold.errors import InkfoldError

REFUSALS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
Timeout = filelock.Timeout


class FileLock(filelock.FileLock):
    """A lock on a file, which is created beside what it protects; see `filelock.FileLock`.

    Raises:
        InkfoldError: When it is acquired on a file system that refuses locks, as some network disks do.
    """

    def _acquire(self) -> None:
        try:
            super()._acquire()
        except OSError as error:
            if error.errno not in REFUSALS:
                raise
            raise InkfoldError(
                f"{self.lock_file}: the file system there refuses locks ({error.strerror}), as some network disks do. Without "
                "them two processes could write the same files at once. Mount it with locks, or choose a local directory: "
                "INKFOLD_HOME for the cache, out= (or --out) for runs and studies."
            ) from error
