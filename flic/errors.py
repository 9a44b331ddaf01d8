"""What can go wrong, one class a cause. Every message is one line that a user can act on."""


class FlicError(Exception):
    """Base of every error that flic raises on purpose."""


class PictureError(FlicError):
    """A picture that cannot be read or is refused: empty, broken, animated, too large."""


class OptionError(FlicError, ValueError):
    """An option's value that cannot be: a tile size, a region that lies outside of the picture."""


class CallError(FlicError, TypeError):
    """A call as the published class takes it and this one does not; says what to call instead."""


class OutputError(FlicError):
    """A result that cannot be written where it was asked for."""


class ForeignFileError(OutputError):
    """A file that flic did not write stands where a result should go."""


class DiskFullError(OutputError):
    """No space is left for a result, nor for those that would come after it."""


class FormatError(FlicError):
    """Data that is not a right .flic file: wrong magic, impossible fields, failed checksum."""


class TruncatedError(FormatError):
    """A .flic file that ends before its own lengths say it should."""


class UnsupportedVersionError(FormatError):
    """A .flic file of a version that this program does not read."""


class CheckpointError(FlicError, ValueError):
    """A file or state dict that is not this model's; the message names the first wrong keys."""


class DeviceError(FlicError):
    """A device that is not there, or has too little memory."""


class ModelNotFoundError(FlicError):
    """No weights of that name or fingerprint are known here."""


class ModelMismatchError(FlicError):
    """The weights given are not those that the file was made with."""


class StreamMismatch(FlicError):
    """Decoded latents differ from the encoder's: the stream decodes wrongly on this machine."""


_EXTRA = (
    "torch", "triton", "numpy", "safetensors", "compressai", "einops", "pytorch_msssim",
    "matplotlib", "bjontegaard",
)  # fmt: skip


def missing_extra(error: ImportError) -> ImportError:
    """The error that says what brings a package of the extra "torch", or the one that is given."""
    if (error.name or "").partition(".")[0] not in _EXTRA:
        return error
    return ImportError(
        f"this needs {error.name}: pip install 'flic-kernels[torch]'", name=error.name
    )
