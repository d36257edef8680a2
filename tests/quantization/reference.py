"""Quantization in plain PyTorch, whose gradients are those of autograd."""


def ste(x):
    """Round, with the gradient of the identity."""
    return x + (x.round() - x).detach()


def on_grid(x, scale, low, high):
    """Clip, then round, so that the gradient is that of clipping; masks written out, for clamp splits ties."""
    v = x / scale
    inside = ((v >= low) & (v <= high)).to(x.dtype)
    below, above = (v < low).to(x.dtype), (v > high).to(x.dtype)
    return scale * (inside * ste(v) + below * low + above * high)
