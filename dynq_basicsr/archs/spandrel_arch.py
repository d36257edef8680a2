"""Networks that spandrel recognises from their checkpoints."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dynq_basicsr.archs.community import import_spandrel
from dynq_basicsr.archs.padding import SizeRequirement
from dynq_basicsr.archs.probe import Probed
from dynq_basicsr.archs.self_padding import own_multiple
from dynq_basicsr.backbones.branches import split_blocks
from dynq_basicsr.backbones.checkpoints import read_checkpoint
from dynq_basicsr.backbones.descriptions import BuildingLimit
from dynq_basicsr.errors import DynqError, shown

# Side of the image that a recognised network is tried on, in pixels.
_TRIAL_SIZE = 16


def Spandrel(path: str) -> nn.Module:
    """Build the network of a checkpoint, with its weights, in the class and with the names that spandrel has for it.

    The network maps (N, C, H, W) in [0, 1] to (N, C', scale * H, scale * W) and can be trained. It gets an
    attribute ``image_format``, what spandrel knows of that.

    Args:
        path: A checkpoint of any super-resolution architecture that spandrel knows, or a quantized one that was made
            from such a checkpoint (its float weights are taken).

    Raises:
        DynqError: If spandrel or the file is missing, the file is not recognised, or it is no super-resolution network
            that can be called like BasicSR's.
    """
    return network_of(recognise(path), path)


def network_of(descriptor: Any, path: str) -> nn.Module:
    """The network that ``recognise`` found at ``path``, see ``Spandrel``."""
    network, needs = descriptor.model, descriptor.size_requirements
    sizes = SizeRequirement(needs.multiple_of, max(needs.minimum, 1))
    own = own_multiple(network, descriptor.input_channels, sizes)
    network.image_format = Probed(
        descriptor.input_channels, descriptor.output_channels, descriptor.scale,
        multiple=math.lcm(sizes.multiple, own), minimum=sizes.minimum,
    )  # fmt: skip
    _check_call(path, descriptor)
    return network


def recognise(path: str) -> Any:
    """Read a checkpoint, executing nothing that it holds, and let spandrel find its architecture.

    Args:
        path: See ``Spandrel``.

    Returns:
        spandrel's ``ImageModelDescriptor``: model with weights, scale, channels, size requirements.

    Raises:
        DynqError: See ``Spandrel``.
    """
    spandrel = import_spandrel()
    if not isinstance(path, str):
        raise DynqError(f'network_g: the path of a Spandrel network must name a checkpoint, not {shown(path)}.')
    state, description = read_checkpoint(path, param_key=None, option='the path of the Spandrel network')
    if description:
        state = split_blocks(_float_part(state))
    way_out = (
        'give network_g (or its backbone) a type that BasicSR knows and its options, and name the file in '
        'path.pretrain_network_g.'
    )
    state = _with_constants(path, state)
    try:
        with BuildingLimit(path, state):
            descriptor = spandrel.MAIN_REGISTRY.load(state)
    except spandrel.UnsupportedModelError as error:
        raise DynqError(f'{path}: spandrel does not recognise its architecture; {way_out}') from error
    except (RuntimeError, LookupError, ValueError, TypeError, AssertionError, AttributeError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise DynqError(f'{path}: is not what spandrel takes it for ({reason}); {way_out}') from error
    if descriptor.purpose != 'SR':
        raise DynqError(
            f'{path}: {descriptor.architecture.name} for {descriptor.purpose.lower()}, not super-resolution; name a '
            'checkpoint that enlarges images.'
        )
    return descriptor


def check_spandrel(section: str, options: Mapping, scale: int | None) -> None:
    """Check the checkpoint of a ``Spandrel`` network before anything is built or written.

    Args:
        section: Where the options stand, for the error.
        options: ``{type: Spandrel, path: ...}``.
        scale: What the option file says; None: nothing.

    Raises:
        DynqError: See ``Spandrel``; also if the network has another scale.
    """
    descriptor = recognise(options['path'])
    if scale is not None and scale != descriptor.scale:
        raise DynqError(
            f'{section}.path: {options["path"]} holds a x{descriptor.scale} network, but scale is {scale}; make them '
            'agree.'
        )


def _float_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's own entries of a quantized network's state dict."""
    return {
        key.removeprefix('backbone.'): value
        for key, value in state.items()
        if key.startswith('backbone.') and not re.search(r'\.(activation|weight)_range\.', key)
    }


def _with_constants(path: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Complete a DAT-light whose constant buffers were left out: spandrel reads the window from them.

    Windows are 8 x 32 in the published DAT-light (Chen et al., ICCV 2023); of the larger DATs two differ in nothing
    else, so they need their buffers.
    """
    attention = 'layers.0.blocks.0.attn.attns.0'
    if f'{attention}.pos.pos_proj.weight' not in state or f'{attention}.rpe_biases' in state:
        return dict(state)
    blocks = {key.split('.')[3] for key in state if key.startswith('layers.0.blocks.')}
    others = any(key.startswith('layers.1.') for key in state)
    if others or len(blocks) != 18 or state['conv_first.weight'].shape[0] != 60:
        raise DynqError(f'{path}: a DAT without its constant buffers, which tell its windows; take the complete file.')
    dat = import_spandrel('spandrel.architectures.DAT').DAT
    # of the fewest channels that the class takes: the constants do not depend on them
    donor = dat(embed_dim=32, depth=[18], num_heads=[2], split_size=[8, 32])
    return {name: value for name, value in donor.named_buffers() if name not in state} | dict(state)


@torch.no_grad()
def _check_call(path: str, descriptor: Any) -> None:
    """Refuse networks that spandrel calls in a way of its own, with another range, arguments or several results."""
    network, training = descriptor.model, descriptor.model.training
    side = network.image_format.sizes.padded(_TRIAL_SIZE)
    image = torch.linspace(0, 1, descriptor.input_channels * side**2).view(1, -1, side, side)
    try:
        # a copy: spandrel runs it in inference mode, and what a network keeps from there could not be trained
        expected = copy.deepcopy(descriptor)(image)
        result = network.eval()(image)
    except (TypeError, RuntimeError):
        result = expected = None
    finally:
        network.train(training)
    same = isinstance(result, Tensor) and result.shape == expected.shape
    if not same or not torch.equal(result.clamp(0, 1), expected):
        raise DynqError(
            f'{path}: {descriptor.architecture.name} takes or gives more than an image in [0, 1], so it cannot be a '
            'backbone; name a checkpoint of another architecture.'
        )
