"""Option files that leave the network to its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from dynq_basicsr.backbones.checkpoints import read_checkpoint
from dynq_basicsr.errors import DynqError

_PARTS = {'backbone', 'quantization', 'policy'}


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
    path = opt['path'].get('pretrain_network_g')
    if not path:
        raise DynqError(
            'network_g.backbone: missing; give its options, or name a quantized checkpoint, which holds them, in '
            'path.pretrain_network_g.'
        )
    description = read_checkpoint(path, opt['path'].get('param_key_g', 'params'))[1]
    if not description:
        raise DynqError(
            f'network_g.backbone: missing, and {path} does not describe a quantized network; give the options of the '
            'backbone.'
        )
    if set(description) != _PARTS:
        raise DynqError(
            f'{path}: describes its network by {", ".join(description)} instead of {", ".join(sorted(_PARTS))}; it was '
            'made by another version, so give these three in network_g.'
        )
    if description['backbone'].get('type') == 'Spandrel':
        # recognised from the checkpoint itself, wherever the float weights are now
        description = {**description, 'backbone': {'type': 'Spandrel', 'path': str(path)}}
    given = {key: value for key, value in network.items() if value is not None}
    opt['network_g'] = {**description, **given}
