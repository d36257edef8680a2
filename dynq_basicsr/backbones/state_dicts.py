"""The state dict within what a file holds: found, freed of wrappers' prefixes, refused where it cannot be one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dynq_basicsr.errors import DynqError, shown

# Where state dicts lie in the files of BasicSR (first two) and of other trainers; averaged weights come first.
SECTIONS = (
    'params_ema', 'params', 'params-ema', 'ema', 'g_ema', 'ema_state_dict', 'model_ema', 'state_dict',
    'model_state_dict', 'generator', 'net_g', 'netG', 'G', 'net', 'network', 'model', 'weights', 'module',
)  # fmt: skip
_DEPTH = 4  # of sections within sections
_COMPILED, _PARALLEL = '_orig_mod.', 'module.'  # what torch.compile and DataParallel put into names
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_KINDS = (*_FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_MOST_SHARING = 8  # entries that hold the same values, as averaged and plain weights do, on average


def find_state(path: str | Path, content: object, param_key: str | None) -> dict[str, Tensor]:
    """The state dict of what a checkpoint holds, its names as in the bare network.

    Args:
        path: The file, for errors and for how much it can hold.
        content: What it holds.
        param_key: The section to prefer; another known one, or the content itself, is taken where it is missing.

    Raises:
        DynqError: If there is none, or it has entries that no network can take.
    """
    state = content
    for _ in range(_DEPTH):
        sections = [state.get(key) for key in (param_key, *SECTIONS)] if isinstance(state, Mapping) else []
        state = next((section for section in sections if isinstance(section, Mapping) and section), state)
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise DynqError(f'{path}: holds no state dict, neither under {param_key!r} nor by itself; {_outline(content)}.')
    _check_tensors(path, state)
    return _bare(path, state)


def common_prefixes(state: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """The state dict, and the same without what stands before the first dots of all its names, as far as that goes."""
    yield state
    while len({key.partition('.')[0] for key in state}) == 1 and all('.' in key for key in state):
        state = {key.partition('.')[2]: value for key, value in state.items()}
        yield state


def kind_of(value: Tensor) -> str:
    """What sort of numbers a tensor holds, for comparison: loading would convert one into the other."""
    if value.dtype == torch.bool:
        return 'truth values'
    return 'floats' if value.is_floating_point() else 'complex numbers' if value.is_complex() else 'integers'


def _outline(content: object) -> str:
    if not isinstance(content, Mapping):
        return f'it holds a {type(content).__name__}'
    keys = [shown(key) for key in list(content)[:8]]
    return f'its keys are {", ".join(keys)}{", ..." if len(content) > 8 else ""}' if keys else 'it is empty'


def _bare(path: str | Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    bare = {key.replace(_COMPILED, ''): value for key, value in state.items()}
    if len(bare) < len(state):
        raise DynqError(f'{path}: holds parameters twice, compiled and not; save one of both.')
    while all(key.startswith(_PARALLEL) for key in bare):
        bare = {key.removeprefix(_PARALLEL): value for key, value in bare.items()}
    return bare


def _check_tensors(path: str | Path, state: Mapping[str, Tensor]) -> None:
    for key, value in state.items():
        if not isinstance(key, str):
            raise DynqError(f'{path}: holds a tensor under {shown(key)}, which is no name; save its state dict anew.')
        if problem := _problem(value):
            raise DynqError(f'{path}: {key[:200]} {problem}; save its state dict anew.')
    # one number in the file may stand for any number of elements, which must not be made before they are counted
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if claimed > _MOST_SHARING * Path(path).stat().st_size:
        raise DynqError(f'{path}: its tensors are larger than what the file can hold; save its state dict anew.')
    for key, value in state.items():
        # as a network computes with them, so that what float32 cannot hold counts as infinite
        if value.dtype in _FLOATS and not torch.isfinite(value.detach().float()).all():
            raise DynqError(f'{path}: {key[:200]} holds NaN or infinity; take an earlier checkpoint.')


def _problem(value: Tensor) -> str:
    """Why a tensor is no plain one; an empty string if it is."""
    if value.is_meta:
        return 'has a shape, but no values'
    if value.layout != torch.strided:
        return 'is a sparse tensor'
    if value.is_quantized or value.dtype not in _KINDS:
        return f'has numbers of the type {str(value.dtype).removeprefix("torch.")}, which networks are not loaded from'
    return ''
