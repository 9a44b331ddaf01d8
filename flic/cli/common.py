"""Options, input, output and models that the commands share."""

import contextlib
import json
import math
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .. import config, output
from ..errors import FlicError, OutputError, PictureError
from ..format import container
from ..model import library

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as ProgressBar
    from rich.progress import ProgressColumn

    from ..codec.codec import Codec
    from ..pictures.images import Picture

STDIO = Path("-")
MAX_THREADS = 256
"""As `flic_kernels.exact` has it; far more end torch itself."""

Model = Annotated[
    str | None,
    typer.Option("-m", "--model", metavar="NAME|FILE", help="A model's name, fingerprint or file."),
]
Models = Annotated[
    Path | None,
    typer.Option("--models", metavar="DIR", help="Folder of further models (.safetensors)."),
]


def _checked(check: Callable[[str], None]) -> Callable[[str], str]:
    """An option's callback that lets it pass unless `check` raises a FlicError."""

    def callback(value: str) -> str:
        check(value)
        return value

    return callback


Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        callback=_checked(config.check_dtype),
        metavar="float32|bfloat16",
        help="What the transforms compute in; files open whatever was chosen.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        callback=_checked(library.check_device_name),
        metavar="DEVICE",
        help="Where to compute: cpu, cuda, cuda:1.",
    ),
]
Cuda = Annotated[bool, typer.Option("--cuda", help="The same as --device cuda.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=MAX_THREADS, metavar="N", help="CPU threads to use."),
]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON on stdout.")]
NoOverwrite = Annotated[
    bool, typer.Option("--no-overwrite", help="Never replace a file that exists.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that flic did not write, too.")
]


class Replace(NamedTuple):
    """What of the files that exist may be replaced: as `output.check_target` takes it."""

    overwrite: bool
    ours: output.Ours

    @classmethod
    def of(cls, overwrite: bool, no_overwrite: bool, ours: output.Ours) -> "Replace":
        """By the options, what `ours` knows unless they say otherwise."""
        if overwrite and no_overwrite:
            raise typer.BadParameter("--overwrite and --no-overwrite are opposites")
        return cls(not no_overwrite, None if overwrite else ours)

    def check(self, target: Path) -> None:
        """Raise OutputError early where `target` must not or cannot be written."""
        output.check_target(target, **self._asdict())

    def write(self, target: Path, data: bytes) -> None:
        """`output.write_atomic`."""
        output.write_atomic(target, data, **self._asdict())


def ignore_announcements() -> None:
    """torch and what builds on it announce their own plans; users of a program cannot act on it."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def device(name: str, cuda: bool) -> str:
    """What --device and --cuda say together: a card that is named stays."""
    return "cuda" if cuda and not name.startswith("cuda") else name


def set_threads(count: int | None) -> None:
    if count is not None:
        from flic_kernels import native

        native.set_threads(count)


def stdout() -> "Console":
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def progress_bar(*columns: "ProgressColumn", hidden: bool) -> "ProgressBar":
    """A progress bar on stderr that goes away when it is done; none where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    hidden = hidden or not console.is_terminal
    return Progress(*columns, console=console, transient=True, disable=hidden)


def print_json(value: Any) -> None:
    """One JSON document a line; infinities become null."""
    typer.echo(json.dumps(_finite(value)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say_dropped(what: list[str]) -> None:
    """One line on stderr that names what of the inputs is not kept; none where all is."""
    if what:
        typer.echo(f"flic: not kept: {', '.join(what)}", err=True)


def size_text(size: int) -> str:
    """12,345 bytes as people say it."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.2f} MB"


def read_input(path: Path) -> bytes:
    """A file's bytes, or stdin's for `-`. Raises FlicError."""
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if path == STDIO else path.open("rb") as file:
            data = file.read(container.MAX_FILE + 1)
    except OSError as error:
        raise FlicError(f"{path}: {error.strerror or error}") from error
    if len(data) > container.MAX_FILE:
        name = "stdin" if path == STDIO else path
        raise FlicError(f"{name}: larger than any .flic file ({container.MAX_FILE >> 20} MiB)")
    return data


def read_picture(path: Path, *, strip: bool = False) -> "Picture":
    """A picture from a file, or from stdin for `-`."""
    from ..pictures import images  # NumPy and Pillow: what needs no pixels begins sooner

    if path != STDIO:
        return images.read(path, strip=strip)
    try:
        return images.read(sys.stdin.buffer.read(images.MAX_FILE + 1), strip=strip)
    except PictureError as error:
        raise PictureError(f"stdin: {error}") from error


def unpack(path: Path, data: bytes) -> container.Container:
    """`container.unpack`, with the file's name in its errors."""
    try:
        return container.unpack(data)
    except FlicError as error:
        raise named(path, error) from error


def named(path: Path, error: FlicError) -> FlicError:
    """The same error with the file's name before its message."""
    return type(error)(f"{'stdin' if path == STDIO else path}: {error}")


def check_stdout() -> None:
    """Raise OutputError early where stdout is a terminal."""
    if sys.stdout.isatty():
        raise OutputError("will not write a file's bytes to a terminal: redirect stdout")


def write_stdout(data: bytes) -> None:
    check_stdout()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class CodecCache:
    """Codecs by model file, loaded when first asked for and kept."""

    def __init__(
        self,
        model: str | None,
        folder: Path | None,
        device: str,
        dtype: str = "float32",
        *,
        gradients: bool = False,
    ) -> None:
        self._dtype, self._gradients = dtype, gradients
        self._model = model
        self._folder = folder
        self._device = device
        self._lock = threading.Lock()  # of what follows
        self._codecs: dict[Path, Codec] = {}
        self._configs: dict[bytes, config.Config] = {}

    def for_encoding(self) -> "Codec":
        """Of the model named, or of the default."""
        return self._codec(self._located())

    def is_native(self) -> bool:
        """Whether the C library codes: with models found by fingerprint, and safetensors files."""
        if self._gradients:
            return False
        return self._model is None or self._located().suffix == ".safetensors"

    def fingerprint(self) -> bytes:
        """Of the model for encoding; where its file's header says it, nothing is loaded."""
        known = library.fingerprint(self._located())
        return self.for_encoding().fingerprint if known is None else bytes.fromhex(known)

    def metadata(self) -> dict[str, str]:
        """What the header of the file of the model for encoding says; nothing is loaded."""
        return library.metadata(self._located())

    def for_file(self, file: container.Container) -> "Codec":
        """Of the model named, or of the one with the file's fingerprint."""
        if self._model is not None:
            return self.for_encoding()
        return self._codec(library.find(file.fingerprint.hex(), self._folder).path)

    def config_of(self, fingerprint: bytes | None = None) -> config.Config:
        """Of the model for encoding, or of a file's; a header that says it is enough."""
        if fingerprint is None or self._model is not None:
            return self.for_encoding().coder.config
        if fingerprint not in self._configs:
            entry = library.find(fingerprint.hex(), self._folder)
            self._configs[fingerprint] = config.resolve(entry.config)
        return self._configs[fingerprint]

    def _located(self) -> Path:
        return library.locate(self._model, self._folder)

    def _codec(self, path: Path) -> "Codec":
        with self._lock:
            if path not in self._codecs:
                from ..codec.opening import open_codec

                self._codecs[path] = open_codec(
                    path, self._dtype, self._device, gradients=self._gradients
                )
            return self._codecs[path]
