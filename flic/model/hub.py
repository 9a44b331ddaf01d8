"""What FLIC has of huggingface_hub's PyTorchModelHubMixin: save_pretrained, from_pretrained, ...

    model.save_pretrained("folder")              # config.json, model.safetensors, README.md
    model = FLIC.from_pretrained("folder")       # or a repository's name

model.safetensors is a FLIC model file like any other (`flic encode -m folder/model.safetensors`),
under the published names. Without huggingface_hub, which the extra "hub" installs, these methods
raise ImportError and the rest works.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import Config
from ..output import check_ours, write_atomic
from . import checkpoint, library
from .state_dict import build

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def _wrote(path: Path) -> bool:
    """Whether flic wrote a configuration or a model."""
    if path.name == _WEIGHTS:
        return library.is_model(path)
    try:
        return json.loads(path.read_bytes()).keys() == Config().to_dict().keys()
    except (AttributeError, ValueError):
        return False


try:
    from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
except ImportError as error:
    _REASON = str(error)

    def _missing(*args: Any, **kwargs: Any) -> None:
        raise ImportError(
            f"needs huggingface_hub: pip install 'flic-kernels[hub]' ({_REASON})",
            name="huggingface_hub",
        )

    class HubMixin:
        """Stands in where huggingface_hub is not installed."""

        save_pretrained = push_to_hub = _missing
        from_pretrained = classmethod(_missing)

else:

    class HubMixin(
        PyTorchModelHubMixin,
        library_name="flic",
        tags=["image-compression"],
        paper_url="https://arxiv.org/abs/2310.16387",
    ):
        """PyTorchModelHubMixin with FLIC's own configuration and weight files."""

        def save_pretrained(
            self, save_directory: str | Path, *, overwrite: bool = False, **options: Any
        ) -> str | None:
            """huggingface_hub's; raises ForeignFileError where a config.json or model.safetensors
            that flic did not write lies in the folder, unless `overwrite`."""
            if not overwrite:
                for name in (_CONFIG, _WEIGHTS):
                    check_ours(Path(save_directory) / name, _wrote, "overwrite=True")
            return super().save_pretrained(save_directory, **options)

        def _save_pretrained(self, save_directory: Path) -> None:
            checkpoint.save(self, save_directory / _WEIGHTS)
            config = json.dumps(self.config.to_dict(), indent=2)
            write_atomic(save_directory / _CONFIG, config.encode() + b"\n")

        @classmethod
        def _from_pretrained(
            cls,
            *,
            model_id: str,
            revision: str | None = None,
            cache_dir: str | Path | None = None,
            force_download: bool = False,
            local_files_only: bool = False,
            token: str | bool | None = None,
            config: dict | str | None = None,
            map_location: str = "cpu",
            strict: bool = True,
        ):
            """A model in eval mode; without a config.json its configuration is inferred."""
            path = Path(model_id) / _WEIGHTS
            if not Path(model_id).is_dir():
                path = hf_hub_download(
                    model_id,
                    _WEIGHTS,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            state, metadata = checkpoint.read(path)
            model = build(state, config, kind=cls, strict=strict)
            model.metadata = metadata
            return model.to(map_location).eval()
