"""How much texture an image holds, as one number."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.601 luma weights of R, G, B.
_LUMA = (0.299, 0.587, 0.114)


def gradient_density(image: Tensor) -> Tensor:
    """Average gradient density: mean of |gx| and |gy| of the grey image, times 1000.

    Gradients are Sobel's, divided by 8, with replicated borders; the mean runs over pixels and both directions
    (CADyQ's measure as AdaBM's published code averages it). A flat image gives 0, photographs 5 to 60.

    Args:
        image: (N, C, H, W) in [0, 1]; three channels are R, G, B, otherwise their mean is the grey image.

    Returns:
        (N,), >= 0.
    """
    if image.shape[1] == 3:
        grey = torch.einsum('nchw,c->nhw', image, image.new_tensor(_LUMA)).unsqueeze(1)
    else:
        grey = image.mean(dim=1, keepdim=True)
    smooth, slope = image.new_tensor([1, 2, 1]) / 4, image.new_tensor([-1, 0, 1]) / 2
    kernels = torch.stack([torch.outer(smooth, slope), torch.outer(slope, smooth)]).unsqueeze(1)
    gradients = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode='replicate'), kernels)
    return 1000 * gradients.abs().mean(dim=(1, 2, 3))
