"""FLIC, the frequency-aware transformer image codec.

    data = flic.encode("photo.png")     # bytes of a .flic file
    image = flic.decode(data)           # a PIL image
    codec = flic.open_codec("small")    # a model kept for many pictures: codec.encode, codec.decode
    model = flic.load_model("small")    # the network, a torch module

Names load on first use, so that `import flic` costs nothing.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "FLIC": "model.network",
    "FrequencyAwareTransFormer": "model.network",
    "Config": "config",
    "Codec": "codec.codec",
    "open_codec": "codec.opening",
    "encode": "codec.api",
    "decode": "codec.api",
    "load_model": "model.loading",
    "FlicError": "errors",
    "PictureError": "errors",
    "OptionError": "errors",
    "CallError": "errors",
    "OutputError": "errors",
    "FormatError": "errors",
    "TruncatedError": "errors",
    "UnsupportedVersionError": "errors",
    "CheckpointError": "errors",
    "DeviceError": "errors",
    "ModelNotFoundError": "errors",
    "ModelMismatchError": "errors",
    "StreamMismatch": "errors",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'flic' has no attribute {name!r}")
    try:
        module = importlib.import_module(f".{_HOME[name]}", __name__)
    except ImportError as error:
        from .errors import missing_extra

        raise missing_extra(error) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
