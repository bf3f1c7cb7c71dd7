"""Files that are there whole or not at all."""

import contextlib
import errno
import os
import pathlib
import secrets
import time

# A temporary file that nobody has written to for so many seconds was left behind by a process that was killed.
LEFT_BEHIND = 3600


def write_whole(path, content):
    """Write bytes to a file. Whatever happens, a file of that name holds all of its old content or all of the new.

    The content goes to a temporary file in the same folder, from there to the disk, and only then takes the name; a
    failure removes it. A symbolic link stays one: what it points to is replaced.

    Raises:
        OSError: the file cannot be written; the old one is as it was.
    """
    path = _target(path)
    _remove_left_behind(path)
    with _temporary(path) as temporary:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    _sync_folder(path.parent)


def check_writable(path):
    """Raise the OSError that `write_whole` would, as far as can be known without content."""
    with _temporary(_target(path)) as temporary:
        open(temporary, "xb").close()
        os.unlink(temporary)


def _target(path):
    path = pathlib.Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "cannot be written: not a regular file", str(path))
    return path


@contextlib.contextmanager
def _temporary(path):
    """A new name in the folder of `path`; a failure removes the file of that name."""
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}")
    try:
        yield temporary
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        # The system's message alone would name the temporary file, or none.
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, f"cannot be written: {os.strerror(error.errno)}", str(path)) from error
        raise


def _prefix(path):
    return f".{path.name}.fastnn-"


def _remove_left_behind(path):
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            if entry.name.startswith(_prefix(path)) and entry.stat().st_mtime < time.time() - LEFT_BEHIND:
                os.unlink(entry)


def _sync_folder(folder):
    """Bring a new name to the disk: until then a power failure may bring back the old file, a whole one too."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not sync folders, and say so.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
