"""Writing files whole or not at all."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from .errors import DiskFullError, ForeignFileError, OutputError
from .format.container import MAGIC
from .pictures import mark

Ours = Callable[[Path], bool] | None
"""Says of an existing file whether flic wrote it, so that it may be replaced; None: any may."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def wrote_flic(path: Path) -> bool:
    """Whether a file is a .flic file, be it a damaged one."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def wrote_picture(path: Path) -> bool:
    """Whether a file is a picture that flic wrote and nobody changed since."""
    return mark.is_in(path.read_bytes())


def check_ours(path: Path, ours: Ours, option: str = "--overwrite") -> None:
    """Raise ForeignFileError, which names `option`, where flic did not write the file `path`."""
    if ours is None or not path.is_file():
        return
    with contextlib.suppress(OSError):
        if ours(path):
            return
    raise ForeignFileError(f"{path}: exists, and flic did not write it ({option} replaces it)")


def check_target(path: Path, *, overwrite: bool = True, ours: Ours = None) -> None:
    """Raise OutputError early, before costly work, where `path` cannot be written.

    overwrite: whether an existing file may be replaced; ours: only where it says so.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder")
    if not overwrite and os.path.lexists(path):
        raise OutputError(f"{path}: exists already (--no-overwrite)")
    check_ours(path, ours)
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    target = Path(os.path.realpath(path))
    if target.exists() and not os.access(target, os.W_OK):
        raise OutputError(f"{path}: is read-only")
    replaced = target.is_file() or not target.exists()
    if replaced and target.parent.is_dir() and not os.access(target.parent, os.W_OK):
        raise OutputError(f"{path}: the folder {target.parent} is read-only")


def check_folder(path: Path) -> None:
    """Raise OutputError where a folder, there or to be made, lets nothing be written into it."""
    path = path.absolute()
    above = next(folder for folder in (path, *path.parents) if folder.is_dir())
    if not os.access(above, os.W_OK):
        raise OutputError(f"{above}: the folder is read-only")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there. Raises OutputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failure(path, error, "cannot make this folder") from error


def write_atomic(
    path: str | os.PathLike, data: bytes, *, overwrite: bool = True, ours: Ours = None
) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, rename it.

    Whatever happens, `path` holds its old content or all of the new; the temporary file is removed
    on any error and on Ctrl-C. Links are followed; a device or pipe is written to directly.
    overwrite, ours: as for `check_target`. Raises OutputError.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite, ours=ours)
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
        raise _failure(path, error, "cannot write") from error


def _failure(path: Path, error: OSError, what: str) -> OutputError:
    if error.errno == errno.EROFS:
        return OutputError(f"{path}: is read-only")
    if error.errno in (errno.EACCES, errno.EPERM):
        above = next(folder for folder in path.absolute().parents if folder.is_dir())
        if not os.access(above, os.W_OK):
            return OutputError(f"{path}: the folder {above} is read-only")
    kind = DiskFullError if error.errno in _FULL else OutputError
    return kind(f"{path}: {what}: {error.strerror or error}")


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
