"""Models, inputs and engine runs that the exact engine's tests share."""

import numpy as np
import torch
from golden_model import fill

from flic.config import Config
from flic.model.network import FLIC
from flic_kernels import native
from flic_kernels.exact import ExactEngine, sizes

# Sizes that do not fill the lanes: widths that are no multiples of 16, head dimensions of 6 and 7,
# 3 tokens and 1 token a slice, more than 16 heads a branch; inner dimensions beyond 256; one slice.
CONFIGS = {
    "odd": Config(widths=(8, 8, 56), heads=(4, 4, 8), latent=36, hyper=20, slices=3, depth=2),
    "narrow": Config(
        widths=(8, 8, 24), heads=(4, 4, 4), latent=32, hyper=7, slices=2, ratio=1, depth=1
    ),
    "many_heads": Config(
        widths=(8, 8, 144), heads=(4, 4, 72), latent=48, hyper=40, slices=1, ratio=6, depth=1
    ),
}


def model(config):
    """A FLIC model with deterministic weights, by configuration or name in CONFIGS."""
    return fill(FLIC(CONFIGS.get(config, config)))


def latents(config, height=16, width=24, seed=0, batch=1):
    """Rounded z [B, N, h/4, w/4] and y [B, M, h, w], float32."""
    rng = np.random.RandomState(seed)

    def draw(*shape):
        return torch.from_numpy(np.round(3 * rng.standard_normal(shape)).astype(np.float32))

    return (
        draw(batch, config.hyper, height // 4, width // 4),
        draw(batch, config.latent, height, width),
    )


def run(engine, z, y):
    """Everything the engine computes for one picture [1, ...], by name."""
    means, scales = engine.hyper(z)
    out = {"means_hyper": means, "scales_hyper": scales}
    picture = engine.begin(means[0], scales[0])
    return out | slices(engine, picture, y)


def slices(engine, picture, y):
    """What T-CA gives for a picture [1, ...] that has begun, by name."""
    out, previous = {}, None
    for i, current in enumerate(y[0].split(engine.slice_channels)):
        values = picture.next_slice(previous)
        for name, value in zip(("means", "scales", "lrp"), values, strict=True):
            out[f"{name}.{i}"] = value
        if engine.isa != "cuda":
            out[f"hidden.{i}"] = picture.hidden()
        previous = current
    return out


def bits(tensors):
    """The tensors' bytes, so that comparison tells apart what == does not."""
    return {name: value.contiguous().numpy().tobytes() for name, value in tensors.items()}


def engines(state_dict, threads=(1, 2, 5)):
    """An engine for every instruction set of this machine and number of threads."""
    for isa in native.available_isas():
        for count in threads:
            yield ExactEngine(state_dict, isa=isa, threads=count)


def dump(state_dict, z, y):
    """What tests/native/exact_run.cpp reads: a model's weights and one picture's latents."""
    weights = {
        name: value
        for name, value in state_dict.items()
        if name.startswith(("h_mean_s.", "h_scale_s.", "tca.")) and value.dtype == torch.float32
    }
    parts = [np.array([*sizes(state_dict), len(weights)], np.int32)]
    for name, value in weights.items():
        parts += [np.int32([len(name)]), np.frombuffer(name.encode(), np.uint8)]
        parts += [np.int32([value.numel()]), value.numpy()]
    parts += [np.int32(y.shape[2:]), z.numpy(), y.numpy()]
    return b"".join(part.tobytes() for part in parts)
