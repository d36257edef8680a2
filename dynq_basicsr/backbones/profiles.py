"""One profile per architecture, by the name of its class: what the wrapper must know of a backbone, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneProfile:
    """What the wrapper knows of an architecture; layers as patterns of ``quantization.selection.select_layers``.

    What no pattern names stays float in both scopes: attention of channels and of transformers. Each layer of these
    architectures runs once in a forward; images come and go in [0, 1].

    Attributes:
        body: Layers whose activations adapt to the content, in both scopes.
        ends: Head, upsampler and tail: float in scope ``body``, 8 bits in scope ``full``. Empty: the first and the last
            layer that ``body`` matches.
        full: Layers outside the blocks that adapt in scope ``full``, and are float in scope ``body``.
        static: Layers of the body that keep the base bits, in both scopes.
        features: Layers of the blocks whose outputs the feature loss compares, or, where the class has no modules for
            its blocks, the last layers of these; empty: those of ``body``.
        precise: Modules ahead of quantized layers that, where they stay float, compute in float64 at evaluation: no
            order of summation decides a rounding then. Convolutions and modules without parameters, as patterns of
            ``select_modules``; none where attention of transformers, which would cost too much, runs ahead, too.
        multiple: Of what the sides of an image must be multiples, in pixels, from a function that looks options up.
    """

    body: tuple[str, ...]
    ends: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    precise: tuple[str, ...] = ()
    multiple: Callable[[Callable[[str], int]], int] = lambda option: 1


# Two convolutions a residual block: what AdaBM quantizes where the network is not "fully quantized".
_RESIDUAL_BLOCKS = r're:body\.\d+\.conv[12]'
# One expression where options decide which of the layers exist.
_ENDS = 're:conv_first|upsample|conv_last'
_DENSE_CONVS = r're:RDBs\.\d+\.convs\.\d+\.conv\.0'
_COMPRESSIONS = r're:down[1-4]'

PROFILES: dict[str, BackboneProfile] = {
    'EDSR': BackboneProfile(
        body=(_RESIDUAL_BLOCKS,), ends=(_ENDS,), full=('conv_after_body',), precise=('conv_first',)
    ),
    'MSRResNet': BackboneProfile(
        body=(_RESIDUAL_BLOCKS,), ends=(r're:conv_first|upconv\d|conv_hr|conv_last',), precise=('conv_first',)
    ),
    'SRResNetBN': BackboneProfile(
        body=(_RESIDUAL_BLOCKS,), ends=('head', 'up', 'tail'), full=('body_conv',), precise=('head',)
    ),
    # Local fusion keeps the base bits and global fusion adapts, as in AdaBM's published code.
    'RDN': BackboneProfile(
        body=(_DENSE_CONVS, 'GFF'),
        ends=('SFENet1', 'SFENet2', 'UPNet'),
        static=(r're:RDBs\.\d+\.LFF',),
        features=(_DENSE_CONVS,),
        precise=('SFENet1', 'SFENet2'),
    ),
    # The placement of CADyQ and Granular-DQ: six convolutions a block; their 1x1 compression is the block's last layer.
    # The transposed convolution stays float in both scopes, since quantized layers are Conv2d and Linear only.
    'IDN': BackboneProfile(
        body=(r're:conv[3-6]_[1-6]',),
        ends=('conv1', 'conv2'),
        full=(_COMPRESSIONS,),
        features=(_COMPRESSIONS,),
        precise=('conv1', 'conv2', r're:down[1-3]'),
    ),
    # Placed like IDN: the 3x3 convolutions of a module adapt, its 1x1 fusion only in scope full; attention stays float.
    'IMDN': BackboneProfile(
        body=(r're:IMDB\d+\.c[1-4]',),
        ends=('fea_conv', 'upsampler.0'),
        full=(r're:IMDB\d+\.c5', 'c.0', 'LR_conv'),
        features=(r're:IMDB\d+\.c5',),
        precise=('fea_conv', r're:IMDB\d+\.(c5|cca\.contrast|cca\.conv_du\.[023])'),
    ),
    # Channel attention stays float, as in CADyQ's and Granular-DQ's networks.
    'RCAN': BackboneProfile(
        body=(r're:body\.\d+\.residual_group\.\d+\.rcab\.[02]',),
        ends=(_ENDS,),
        full=(r're:body\.\d+\.conv', 'conv_after_body'),
        precise=('conv_first', r're:body\.\d+\.conv', r're:.*\.attention\.[0134]'),
    ),
    # Below x4, RRDBNet begins with a pixel unshuffle.
    'RRDBNet': BackboneProfile(
        body=(r're:body\.\d+\.rdb\d\.conv\d',),
        ends=(r're:conv_first|conv_up\d|conv_hr|conv_last',),
        full=('conv_body',),
        precise=('conv_first',),
        multiple=lambda option: max(4 // option('scale'), 1),
    ),
    # Granular-DQ, supplement: the MLPs' linear layers are quantized, attention stays float.
    'SwinIR': BackboneProfile(
        body=(r're:layers\.\d+\.residual_group\.blocks\.\d+\.mlp\.fc[12]',),
        ends=(r're:conv_first|conv_before_upsample|upsample|conv_up\d|conv_hr|conv_last',),
        full=(r're:layers\.\d+\.conv', 'conv_after_body'),
        multiple=lambda option: option('window_size'),
    ),
    # Likewise, with the MLPs of the overlapping cross-attention.
    'HAT': BackboneProfile(
        body=(r're:layers\.\d+\.residual_group\.(blocks\.\d+|overlap_attn)\.mlp\.fc[12]',),
        ends=(r're:conv_first|conv_before_upsample|upsample|conv_last',),
        full=(r're:layers\.\d+\.conv', 'conv_after_body'),
        multiple=lambda option: option('window_size'),
    ),
    # Likewise; the depthwise convolution between the two layers stays float.
    'DAT': BackboneProfile(
        body=(r're:layers\.\d+\.blocks\.\d+\.ffn\.fc[12]',),
        ends=(r're:conv_first|conv_before_upsample|upsample|conv_last',),
        full=(r're:layers\.\d+\.conv', 'conv_after_body'),
    ),
    'SRVGGNetCompact': BackboneProfile(body=(r're:body\.\d+',), precise=('body.0',)),
}
