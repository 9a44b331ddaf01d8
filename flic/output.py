"""Writing files whole or not at all."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from .errors import OutputError


def check_target(path: Path, *, overwrite: bool = True) -> None:
    """Raise OutputError early, before costly work, where `path` cannot be written."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder")
    if not overwrite and os.path.lexists(path):
        raise OutputError(f"{path}: exists already (--no-overwrite)")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    target = Path(os.path.realpath(path))
    if target.exists() and not os.access(target, os.W_OK):
        raise OutputError(f"{path}: is read-only")
    replaced = target.is_file() or not target.exists()
    if replaced and target.parent.is_dir() and not os.access(target.parent, os.W_OK):
        raise OutputError(f"{path}: the folder {target.parent} is read-only")


def write_atomic(path: str | os.PathLike, data: bytes, *, overwrite: bool = True) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, rename it.

    Whatever happens, `path` holds its old content or all of the new; the temporary file is removed
    on any error and on Ctrl-C. Links are followed; a device or pipe is written to directly.
    Raises OutputError.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        _replace(target, data, overwrite)
    except FileExistsError as error:
        raise OutputError(f"{path}: exists already (--no-overwrite)") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot write: {error.strerror or error}") from error


def _replace(target: Path, data: bytes, overwrite: bool) -> None:
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            with contextlib.suppress(OSError):
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            os.replace(temporary, target)
        else:
            # unlike a rename, a link fails where the name has been taken meanwhile
            os.link(temporary, target)
            os.unlink(temporary)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
