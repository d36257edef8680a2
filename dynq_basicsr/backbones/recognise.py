"""Which architecture a state dict belongs to, and with which options, told from the names and shapes it holds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from dynq_basicsr.backbones.key_maps import KEY_MAPS

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Recognised:
    """An architecture that fits a state dict.

    Attributes:
        options: ``{type: ..., further options}``, as in ``network_g.backbone``.
        assumed: Options that no name or shape tells, for the reader: what was taken for them.
    """

    options: dict[str, object]
    assumed: dict[str, object] = field(default_factory=dict)


def recognise(state: Mapping[str, Tensor], scale: int | None = None) -> Recognised | None:
    """Find the architecture of a float state dict among BasicSR's and ours.

    A candidate is a proposal: whoever builds it loads the weights strictly, and so learns whether it was right.

    Args:
        state: Names as in BasicSR, or as in a trainer that ``KEY_MAPS`` knows.
        scale: The enlargement, where somebody knows it; asked only where no shape tells it.

    Returns:
        The architecture; None where none of these fits.
    """
    for rename in KEY_MAPS.values():
        named = {new: tuple(value.shape) for key, value in state.items() if (new := rename(key)) is not None}
        for kind, (marks, read) in _KINDS.items():
            if all(any(re.fullmatch(mark, key) for key in named) for mark in marks):
                try:
                    options, assumed = read(named, scale)
                except (KeyError, IndexError, ValueError, ZeroDivisionError):
                    continue  # names of that architecture and shapes of another
                return Recognised({'type': kind, **options}, assumed)
    return None


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbers the one group of a pattern takes, which run from 0 (or 1) without a gap."""
    return len({match[1] for key in shapes if (match := re.fullmatch(pattern, key))})


def _root(number: float) -> int:
    """The whole square root of a number that has one."""
    root = math.isqrt(round(number))
    if root < 1 or root * root != number:
        raise ValueError(f'{number} is no square')
    return root


def _shuffled(shapes: Shapes, pattern: str) -> int:
    """The scale of convolutions, each in front of a pixel shuffle, that a pattern names."""
    scale = 1
    for key, shape in shapes.items():
        if re.fullmatch(pattern, key):
            scale *= _root(shape[0] / shape[1])
    return scale


def _ends(shapes: Shapes, first: str, last: str) -> dict[str, object]:
    outputs, inputs = shapes[f'{first}.weight'][:2]
    return {'num_in_ch': inputs, 'num_out_ch': shapes[f'{last}.weight'][0], 'num_feat': outputs}


def _edsr(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    found = _ends(shapes, 'conv_first', 'conv_last')
    # Lim et al., CVPRW 2017: the large network, of 256 channels, scales its residuals
    res_scale = 0.1 if found['num_feat'] == 256 else 1
    assumed: dict[str, object] = {'res_scale': res_scale}
    if found['num_in_ch'] != 3:
        assumed['rgb_mean'] = [0.0] * found['num_in_ch']
    options = {'num_block': _count(shapes, r'body\.(\d+)\.conv1\.weight'),
               'upscale': _shuffled(shapes, r'upsample\.\d+\.weight'), **assumed}  # fmt: skip
    return found | options, assumed


def _msrresnet(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    blocks = {'num_block': _count(shapes, r'body\.(\d+)\.conv1\.weight')}
    return _ends(shapes, 'conv_first', 'conv_last') | blocks | {
        'upscale': _shuffled(shapes, r'upconv\d\.weight')
    }, {}  # fmt: skip


def _srresnet_bn(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    blocks = {'num_block': _count(shapes, r'body\.(\d+)\.conv1\.weight')}
    return _ends(shapes, 'head', 'tail') | blocks | {'upscale': _shuffled(shapes, r'up\.\d+\.weight')}, {}


def _rdn(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    growth = shapes['RDBs.0.convs.0.conv.0.weight'][0]
    *shuffled, last = sorted((key for key in shapes if re.fullmatch(r'UPNet\.\d+\.weight', key)), key=_first_number)
    options = _ends(shapes, 'SFENet1', last.removesuffix('.weight')) | {
        'num_block': _count(shapes, r'RDBs\.(\d+)\.LFF\.weight'),
        'num_layer': _count(shapes, r'RDBs\.0\.convs\.(\d+)\.conv\.0\.weight'),
        'num_grow_ch': growth,
        # behind each shuffle there are as many channels as a layer of a block adds
        'upscale': math.prod(_root(shapes[key][0] / growth) for key in shuffled),
    }
    return options, {}


def _idn(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    width = shapes['conv1.weight'][1]
    if scale is None:
        raise ValueError('its transposed convolution has the same shape at every scale')
    # weights of one channel know luma only; RGB images go through them with bicubic chroma
    options = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': shapes['conv1.weight'][0], 'upscale': scale}
    return options | ({'luma': True} if width == 1 else {}), {'upscale': scale}


def _imdn(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    feat, inputs = shapes['fea_conv.weight'][:2]
    options = {'num_in_ch': inputs, 'num_out_ch': inputs, 'num_feat': feat,
               'num_modules': _count(shapes, r'IMDB(\d+)\.c1\.weight'),
               'upscale': _root(shapes['upsampler.0.weight'][0] / inputs)}  # fmt: skip
    return options, {}


def _rcan(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    feat = shapes['conv_first.weight'][0]
    assumed = {'res_scale': 1}
    options = _ends(shapes, 'conv_first', 'conv_last') | {
        'num_group': _count(shapes, r'body\.(\d+)\.conv\.weight'),
        'num_block': _count(shapes, r'body\.0\.residual_group\.(\d+)\.rcab\.0\.weight'),
        'squeeze_factor': feat // shapes['body.0.residual_group.0.rcab.3.attention.1.weight'][0],
        'upscale': _shuffled(shapes, r'upsample\.\d+\.weight'),
    }
    return options | assumed, assumed


def _rrdbnet(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    found = _ends(shapes, 'conv_first', 'conv_last')
    outputs = found['num_out_ch']
    # below x4, the image is unshuffled first: its channels become four or sixteen times as many
    shuffle = _root(found['num_in_ch'] / outputs)
    options = found | {
        'num_in_ch': outputs,
        'scale': {1: 4, 2: 2, 4: 1}[shuffle],
        'num_block': _count(shapes, r'body\.(\d+)\.rdb1\.conv1\.weight'),
        'num_grow_ch': shapes['body.0.rdb1.conv1.weight'][0],
    }
    return options, {}


def _compact(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    feat, inputs = shapes['body.0.weight'][:2]
    last = max(_first_number(key) for key in shapes)
    # convolution and PReLU in turn; without slopes, nothing tells ReLU from LeakyReLU
    if shapes['body.1.weight'] != (feat,) or any(not key.startswith('body.') for key in shapes):
        raise ValueError('no PReLU')
    options = {'num_in_ch': inputs, 'num_out_ch': inputs, 'num_feat': feat, 'num_conv': last // 2 - 1,
               'upscale': _root(shapes[f'body.{last}.weight'][0] / inputs), 'act_type': 'prelu'}  # fmt: skip
    return options, {}


def _first_number(key: str) -> int:
    return int(re.search(r'\d+', key).group())


def _transformer(shapes: Shapes) -> dict[str, object]:
    """What SwinIR and HAT share."""
    embed, inputs = shapes['conv_first.weight'][:2]
    blocks = r'layers\.{}\.residual_group\.blocks\.(\d+)\.norm1\.weight'
    groups = _count(shapes, r'layers\.(\d+)\.residual_group\.blocks\.0\.norm1\.weight')
    first = 'layers.{}.residual_group.blocks.0'
    tables = [shapes[f'{first.format(group)}.attn.relative_position_bias_table'] for group in range(groups)]
    return {
        'in_chans': inputs,
        'embed_dim': embed,
        'depths': [_count(shapes, blocks.format(group)) for group in range(groups)],
        'num_heads': [heads for _, heads in tables],
        'window_size': (_root(tables[0][0]) + 1) // 2,
        'mlp_ratio': shapes[f'{first.format(0)}.mlp.fc1.weight'][0] / embed,
        'qkv_bias': f'{first.format(0)}.attn.qkv.bias' in shapes,
        'patch_norm': 'patch_embed.norm.weight' in shapes,
    }


def _swinir(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    options = _transformer(shapes)
    masks = [shape[0] for key, shape in shapes.items() if key.endswith('attn_mask')]
    options['img_size'] = options['window_size'] * (_root(masks[0]) if masks else 1)
    options['resi_connection'] = '3conv' if 'conv_after_body.0.weight' in shapes else '1conv'
    if 'conv_up1.weight' in shapes:
        return options | {'upsampler': 'nearest+conv', 'upscale': 4}, {}
    if 'conv_before_upsample.0.weight' in shapes:
        upscale = _shuffled(shapes, r'upsample\.\d+\.weight')
        return options | {'upsampler': 'pixelshuffle', 'upscale': upscale}, {}
    upscale = _root(shapes['upsample.0.weight'][0] / options['in_chans'])
    return options | {'upsampler': 'pixelshuffledirect', 'upscale': upscale}, {}


def _hat(shapes: Shapes, scale: int | None) -> tuple[dict, dict]:
    options = _transformer(shapes)
    embed, window = options['embed_dim'], options['window_size']
    block = 'layers.0.residual_group.blocks.0.conv_block.cab'
    overlapping = shapes['layers.0.residual_group.overlap_attn.relative_position_bias_table'][0]
    assumed = {'conv_scale': 0.01}
    return options | assumed | {
        'compress_ratio': embed // shapes[f'{block}.0.weight'][0],
        'squeeze_factor': embed // shapes[f'{block}.3.attention.1.weight'][0],
        # the table has one row for each offset between a window and the larger one: w + w' - 1 a side
        'overlap_ratio': (_root(overlapping) + 1 - 2 * window) / window,
        'resi_connection': '1conv' if 'conv_after_body.weight' in shapes else 'identity',
        'upscale': _shuffled(shapes, r'upsample\.\d+\.weight'),
    }, assumed  # fmt: skip


Reader = Callable[[Shapes, 'int | None'], tuple[dict, dict]]
# Architecture -> names that only it has, and how its options are read; the first that fits is taken.
_KINDS: dict[str, tuple[tuple[str, ...], Reader]] = {
    'HAT': ((r'layers\.0\.residual_group\.overlap_attn\..*', 'conv_first.weight'), _hat),
    'SwinIR': ((r'layers\.0\.residual_group\.blocks\.0\.attn\.relative_position_bias_table',), _swinir),
    'RRDBNet': ((r'body\.0\.rdb1\.conv1\.weight', 'conv_up2.weight'), _rrdbnet),
    'RCAN': ((r'body\.0\.residual_group\.0\.rcab\.0\.weight', 'conv_after_body.weight'), _rcan),
    'EDSR': ((r'body\.0\.conv1\.weight', 'conv_after_body.weight', r'upsample\.0\.weight'), _edsr),
    'MSRResNet': ((r'body\.0\.conv1\.weight', 'upconv1.weight', 'conv_hr.weight'), _msrresnet),
    'SRResNetBN': (('head.weight', 'head_prelu.weight', 'body_bn.running_var'), _srresnet_bn),
    'RDN': (('SFENet1.weight', r'RDBs\.0\.LFF\.weight'), _rdn),
    'IMDN': (('fea_conv.weight', r'IMDB1\.c1\.weight', 'LR_conv.weight'), _imdn),
    'IDN': (('conv3_1.weight', 'conv6_6.weight', 'down4.weight'), _idn),
    'SRVGGNetCompact': ((r'body\.0\.weight', r'body\.1\.weight', r'body\.4\.weight'), _compact),
}
