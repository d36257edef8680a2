"""Reading weights: BasicSR's files, other people's, safetensors; every parameter accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import torch
from basicsr.utils import get_root_logger
from safetensors.torch import load_file
from torch import Tensor, nn

from dynq_basicsr.backbones.branches import merge_blocks
from dynq_basicsr.backbones.descriptions import check_description
from dynq_basicsr.backbones.key_maps import KEY_MAPS
from dynq_basicsr.backbones.state_dicts import common_prefixes, find_state, kind_of
from dynq_basicsr.backbones.torch_files import read_torch_file
from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.errors import DynqError, shown
from dynq_basicsr.quantization.quantizers import ActivationQuantizer
from dynq_basicsr.quantization.run import RunHolder
from dynq_basicsr.quantization.weights import WeightRange

# Whether it was calibrated, in the state dict of a quantized network; PyTorch's name for what is neither parameter nor
# buffer.
EXTRA_STATE = '_extra_state'


def read_checkpoint(
    path: str | Path, param_key: str | None = 'params', option: str = 'path.pretrain_network_g'
) -> tuple[dict[str, Tensor], dict]:
    """Read a state dict onto the CPU, executing nothing that the file holds.

    Every value is finite. Damage is found by checksums where the format has any (see ``torch_files``); safetensors has
    none, so there a number that was damaged and is finite still passes for another.

    Args:
        path: A ``.safetensors`` file, or one that ``torch.save`` wrote.
        param_key: Section to prefer, as BasicSR's ``path.param_key_g``; another known section, or the file itself, is
            taken where it is missing.
        option: What named the file, for the error.

    Returns:
        The state dict, and the description that checkpoints of quantized networks carry (else empty).

    Raises:
        DynqError: If the file is missing, damaged, or holds no tensors that a network can take.
    """
    path = Path(path)
    if not path.is_file():
        raise DynqError(f'{path}: no such checkpoint; check {option}.')
    content = _read_safetensors(path) if path.suffix == '.safetensors' else read_torch_file(path)
    state = find_state(path, content, param_key)
    description = content.get('description') if isinstance(content, Mapping) else None
    return state, check_description(path, description)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device='cpu')
    except Exception as error:  # of safetensors, of PyTorch for types that it lacks, of the system
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise DynqError(
            f'{path}: not a readable checkpoint of plain tensors ({reason}); save its state dict anew.'
        ) from error


def is_quantized(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of a quantized network, described or not."""
    return EXTRA_STATE in state or any('_range.log_' in key for key in state)


def load_weights(
    net: nn.Module,
    path: str | Path,
    param_key: str | None = 'params',
    option: str = 'path.pretrain_network_g',
    section: str = 'network_g',
) -> None:
    """Load a checkpoint so that every parameter is accounted for.

    A quantized network (``archs.QuantizedSR``) takes its own checkpoints whole, and float ones into its backbone. Names
    of other trainers are recognised (``key_maps.KEY_MAPS``). Buffers that hold constants may be missing.

    Args:
        net: The bare network, no parallel wrapper.
        path: See ``read_checkpoint``.
        param_key: See ``read_checkpoint``.
        option: See ``read_checkpoint``.
        section: Where the options of the network stand, for the error.

    Raises:
        DynqError: Names the keys that are missing, left over or of another shape, or the option in which network_g
            differs from what the quantized checkpoint was made with.
    """
    state, description = read_checkpoint(path, param_key, option)
    wrapped = isinstance(getattr(net, 'holder', None), RunHolder)
    quantized = is_quantized(state)
    if quantized and not wrapped:
        raise DynqError(f'{path}: a quantized checkpoint, but network_g is {type(net).__name__}; use type QuantizedSR.')
    if quantized and description:
        _check_description(path, _comparable(_with_defaults(path, description)), _comparable(net.description))
    target = net.backbone if wrapped and not quantized else net
    own = target.state_dict()
    if not quantized:
        added = _quantizer_keys(target)
        own = {key: value for key, value in own.items() if key not in added}
    optional = _constant_buffers(target)
    problems: list[str] = []
    for named, (name, rename) in product(common_prefixes(state), KEY_MAPS.items()):
        renamed = {new: value for key, value in named.items() if (new := rename(key)) is not None}
        renamed = merge_blocks(renamed, own)
        problem = _mismatch(own, renamed, optional)
        if not problem:
            _check_mean_shift(path, named, target, section)
            target.load_state_dict(target.state_dict() | renamed)
            if quantized:
                _check_policy(path, net)
            get_root_logger().info(f'Loaded {type(target).__name__} from {path}, keys {name}.')
            return
        problems.append(problem)
    raise DynqError(
        f'{path} does not fit {type(target).__name__}: {min(problems, key=len)}. Compare {section} with the checkpoint.'
    )


def _check_policy(path: str | Path, net: nn.Module) -> None:
    try:
        net.policy.check_values()
    except DynqError as error:
        raise DynqError(f'{path}: {error}; the checkpoint is damaged, take an earlier one.') from error


def _check_mean_shift(path: str | Path, state: Mapping[str, Tensor], net: nn.Module, section: str) -> None:
    """EDSR-PyTorch keeps the mean colour as a layer, BasicSR's EDSR as a constant: refuse to swap one for another."""
    mean, span = getattr(net, 'mean', None), getattr(net, 'img_range', 1)
    for key, sign in (('sub_mean.bias', -1), ('add_mean.bias', 1)):
        if key in state and isinstance(mean, Tensor):
            theirs = (sign * state[key] / span).flatten()
            if not torch.allclose(theirs, mean.flatten().to(theirs), atol=1e-4):
                colour = [round(value, 4) for value in theirs.tolist()]
                raise DynqError(f'{path}: {key} means rgb_mean {colour}, which {section} does not have; set rgb_mean.')


def _with_defaults(path: str | Path, description: Mapping) -> dict[str, object]:
    """The description of a checkpoint, completed by options that are younger than it.

    Raises:
        DynqError: If it has options that this version does not know.
    """
    try:
        quantization = QuantizationOptions.from_dict(description.get('quantization')).model_dump()
    except DynqError as error:
        raise DynqError(f'{path}: describes a network that this version cannot make ({error}); update it.') from error
    return {**description, 'quantization': quantization}


def _comparable(description: Mapping) -> dict[str, object]:
    """A description without what may differ: where a recognised network's float weights once were."""
    backbone = description.get('backbone')
    if not isinstance(backbone, Mapping) or backbone.get('type') != 'Spandrel':
        return dict(description)
    return {**description, 'backbone': {key: value for key, value in backbone.items() if key != 'path'}}


def _check_description(path: str | Path, saved: Mapping, current: Mapping, section: str = 'network_g') -> None:
    """Refuse to load a quantized checkpoint into a network of other options."""
    for key in sorted(saved.keys() | current.keys()):
        before, now = saved.get(key), current.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            _check_description(path, before, now, f'{section}.{key}')
        elif (list(before) if isinstance(before, tuple) else before) != (list(now) if isinstance(now, tuple) else now):
            raise DynqError(
                f'{path} was made with {section}.{key} = {shown(before)}, network_g asks for {shown(now)}; make them '
                'agree.'
            )


def _quantizer_keys(net: nn.Module) -> set[str]:
    """Keys that only a quantized network has."""
    modules = net.named_modules(remove_duplicate=False)
    ranges = [name for name, module in modules if isinstance(module, ActivationQuantizer | WeightRange)]
    return {f'{name}.{key}' for name in ranges for key in net.get_submodule(name).state_dict()}


def _constant_buffers(net: nn.Module) -> set[str]:
    statistics = ('running_mean', 'running_var')
    return {name for name, _ in net.named_buffers() if name.rsplit('.', 1)[-1] not in statistics}


def _mismatch(own: Mapping[str, Tensor], given: Mapping[str, Tensor], optional: set[str]) -> str:
    """Say what keeps ``given`` from filling ``own``; an empty string if nothing does."""
    shapes = [
        f'{key} is {tuple(given[key].shape)}, not {tuple(own[key].shape)}'
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    kinds = [
        f'{key} holds {kind_of(given[key])}, not {kind_of(own[key])}'
        for key in own
        if key in given and kind_of(given[key]) != kind_of(own[key])
    ]
    lists = {
        'missing': [key for key in own if key not in given and key not in optional],
        'left over': [key for key in given if key not in own],
        'of another shape': shapes,
        'of another type': kinds,
    }
    return '; '.join(
        f'{len(keys)} {what} ({", ".join(keys[:4])}{", ..." if len(keys) > 4 else ""})'
        for what, keys in lists.items()
        if keys
    )
