"""HAT, the hybrid attention transformer; its class is spandrel's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from dynq_basicsr.archs.community import import_spandrel


def HAT(
    img_size: int = 64,
    patch_size: int = 1,
    in_chans: int = 3,
    embed_dim: int = 96,
    depths: Sequence[int] = (6, 6, 6, 6),
    num_heads: Sequence[int] = (6, 6, 6, 6),
    window_size: int = 7,
    compress_ratio: int = 3,
    squeeze_factor: int = 30,
    conv_scale: float = 0.01,
    overlap_ratio: float = 0.5,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    qk_scale: float | None = None,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.1,
    ape: bool = False,
    patch_norm: bool = True,
    use_checkpoint: bool = False,
    upscale: int = 2,
    img_range: float = 1.0,
    upsampler: str = 'pixelshuffle',
    resi_connection: str = '1conv',
) -> nn.Module:
    """Build a HAT (Chen et al., CVPR 2023) with the options and parameter names of XPixelGroup/HAT.

    HAT-S: embed_dim 144, depths and num_heads (6, 6, 6, 6, 6, 6), window_size 16, compress_ratio 24, squeeze_factor 24,
    mlp_ratio 2. The network maps (N, C, H, W) in [0, 1] to (N, C, upscale * H, upscale * W) and trains as theirs does.

    Args:
        img_size: Side of the images it is trained on, in pixels; other sizes work.
        patch_size: Side of a token, in pixels; only 1 is published.
        in_chans: Channels of the image.
        embed_dim: Channels of the features.
        depths: Hybrid attention blocks of each group.
        num_heads: Attention heads of each group.
        window_size: Side of an attention window, in pixels.
        compress_ratio: By how much the convolutions beside the attention narrow the features.
        squeeze_factor: By how much channel attention narrows them.
        conv_scale: Weight of those convolutions.
        overlap_ratio: By how much of its side a window of the overlapping attention is larger.
        mlp_ratio: Hidden features of an MLP over ``embed_dim``.
        qkv_bias: Queries, keys and values have a bias.
        qk_scale: Scale of the attention's logits; None: one over the square root of a head's width.
        drop_rate: Dropout of tokens and projections.
        attn_drop_rate: Dropout of attention weights.
        drop_path_rate: Stochastic depth of the last block, rising from 0; acts in training mode.
        ape: Add a learned position embedding; images must be of ``img_size`` then.
        patch_norm: Normalise the shallow features.
        use_checkpoint: Taken for their option files' sake; has no effect there either.
        upscale: 2, 3, 4 or 8.
        img_range: Range that the weights work on.
        upsampler: Only ``pixelshuffle`` exists.
        resi_connection: ``1conv`` or ``identity`` at the end of each group and of the body.

    Raises:
        DynqError: If spandrel is not installed.
        ValueError: If upsampler or resi_connection is unknown.
    """
    options = dict(locals())
    if upsampler != 'pixelshuffle':
        raise ValueError(f'HAT: upsampler must be pixelshuffle, not {upsampler!r}.')
    if resi_connection not in ('1conv', 'identity'):
        raise ValueError(f'HAT: resi_connection must be 1conv or identity, not {resi_connection!r}.')
    return import_spandrel('spandrel.architectures.HAT').HAT(**options)
