"""The built-in models at other rates: points of a curve without training."""

import torch

from flic import FLIC
from flic.model import loading


@torch.no_grad()
def rescaled(scale: float, name: str = "tiny") -> FLIC:
    """A built-in model with y, means and scales multiplied, and y divided again where it is read.

    A larger scale is a finer quantisation: more bits and, up to a point, better pictures.
    """
    model = loading.load_model(name)
    size, ratio = model.config.slice_channels, model.config.ratio
    model.g_a[9].weight.mul_(scale)
    model.g_a[9].bias.mul_(scale)
    model.h_a[0].conv1.weight.div_(scale)
    model.h_a[0].skip.weight.div_(scale)
    model.g_s[0].subpel_conv[0].weight.div_(scale)
    model.g_s[0].upsample[0].weight.div_(scale)
    model.tca.TCA.lift.weight[size * ratio :].div_(scale)  # the first slice reads no y
    last = model.tca.entropy_parameters_net[4]
    for part in (0, 1):  # means and scales; lrp, the third, stays
        last.weight[part::3].mul_(scale)
        last.bias[part::3].mul_(scale)
    return model
