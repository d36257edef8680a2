"""Option files that leave the network to its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.backbones.checkpoints import read_checkpoint
from dynq_basicsr.backbones.descriptions import FORMAT, PARTS, BuildingLimit
from dynq_basicsr.config.network import QuantizedNetworkOptions
from dynq_basicsr.errors import DynqError, check_keys, shown


def complete_network(opt: dict) -> None:
    """Take what ``network_g`` leaves out from the quantized checkpoint, where no backbone is given.

    What is given stays and is compared with the checkpoint when that is loaded. Any other network is left alone.

    Args:
        opt: BasicSR's options, changed in place: ``network_g`` gets ``backbone``, ``quantization`` and ``policy``.

    Raises:
        DynqError: If no backbone is given and no checkpoint describes one.
    """
    network = opt.get('network_g')
    if not isinstance(network, Mapping) or network.get('type') != 'QuantizedSR' or network.get('backbone'):
        return
    check_keys('network_g', network, QuantizedNetworkOptions.model_fields)
    path = opt['path'].get('pretrain_network_g')
    if path is not None and not isinstance(path, str | PathLike):
        raise DynqError(f'path.pretrain_network_g: must be text, or null, not {shown(path)}.')
    if not path:
        raise DynqError(
            'network_g.backbone: missing; give its options, or name a quantized checkpoint, which holds them, in '
            'path.pretrain_network_g.'
        )
    given = {key: value for key, value in network.items() if value is not None}
    described = described_network(path, opt['path'].get('param_key_g', 'params'))
    if not described:
        raise DynqError(
            f'network_g.backbone: missing, and {path} does not describe a quantized network; give the options of the '
            'backbone.'
        )
    opt['network_g'] = {**described, **given}


def described_network(
    path: str | Path, param_key: str | None = 'params', option: str = 'path.pretrain_network_g'
) -> dict[str, object]:
    """The arguments of ``QuantizedSR`` that a quantized checkpoint holds; empty where it describes none.

    Args:
        path: The checkpoint.
        param_key: See ``read_checkpoint``.
        option: See ``read_checkpoint``.

    Raises:
        DynqError: If it describes another version's, or one that does not fit its weights.
    """
    state, description = read_checkpoint(path, param_key, option)
    if not description:
        return {}
    if not set(PARTS) <= set(description) <= {*PARTS, *FORMAT}:
        raise DynqError(
            f'{path}: describes its network by {", ".join(description)} instead of {", ".join(PARTS)}; it was '
            'made by another version, so give these three in network_g.'
        )
    kind = description['backbone'].get('type')
    if kind == 'Spandrel':
        # recognised from the checkpoint itself, wherever the float weights are now
        return {**description, 'backbone': {'type': 'Spandrel', 'path': str(path)}}
    if kind != 'Module':
        with BuildingLimit(path, state):
            build_backbone(description['backbone'])
    return dict(description)
