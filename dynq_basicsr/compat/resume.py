"""Repairs of resuming a training run."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from basicsr.utils import check_resume

from dynq_basicsr.backbones.torch_files import read_torch_file
from dynq_basicsr.compat import interrupted_epoch
from dynq_basicsr.compat.registries import run_is_ours
from dynq_basicsr.errors import DynqError

# What ``ResumableModel`` saves beside what BasicSR saves, and its type where it is there.
_OWN = {'best_metric_results': dict, 'validated': list, 'loss_limits': dict, 'loop': list}


def resume_not_compiled_with_cuda() -> None:
    """Let a training run be resumed on any device, from any directory, after any crash.

    Symptom: ``AssertionError: Torch not compiled with CUDA enabled`` at ``--auto_resume`` or ``path.resume_state``
        without a GPU; ``--auto_resume`` finds nothing, and moves the old run aside, unless the current directory is
        the root of the experiments; a state file cut off by a kill or a full disk stops it with a traceback;
        ``path.resume_state`` of a run of another name finds neither a folder to write nor the networks of that run.
    Cause: BasicSR maps the state to the current CUDA device, looks below the current directory while it saves below
        the root path, and opens the newest file only; it makes folders only for a run that begins, and looks for
        networks in the folder of the run that goes on.
    Cure: load to the CPU (the optimizers move it on), look where BasicSR saves, take the newest state that is whole;
        make the folders, and take the networks beside the state.
    """
    sys.modules['basicsr.train'].load_resume_state = load_resume_state


def load_resume_state(opt: dict) -> dict | None:
    """Load the training state that the options ask for; the loop will go on within the epoch (``interrupted_epoch``).

    Args:
        opt: BasicSR's options; the paths of state and networks are written into ``opt['path']``.

    Returns:
        The state, with all tensors on the CPU, or None to start from the beginning.

    Raises:
        DynqError: If ``path.resume_state`` names a file that cannot be read.
    """
    if opt.get('auto_resume'):
        found = _newest_whole_state(opt)
    elif opt['path'].get('resume_state'):
        path = opt['path']['resume_state']
        try:
            found = path, read_state(path)
        except Exception as error:
            raise DynqError(f'path:resume_state: {path!r} cannot be resumed from ({_first_line(error)}); name a whole '
                            '.state file or use --auto_resume.') from error
    else:
        found = None
    if found is None:
        interrupted_epoch.go_on_from(None)
        return None
    opt['path']['resume_state'], state = found
    check_resume(opt, state['iter'])
    _take_networks_beside(opt)
    _make_folders(opt['path'])
    interrupted_epoch.go_on_from(state.get('loop'))
    return state


def _take_networks_beside(opt: dict) -> None:
    """Take the networks of the run that saved the state, where it has another name than this one."""
    models = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(opt['path']['resume_state']))), 'models')
    ignored = opt['path'].get('ignore_resume_networks') or ()
    for key in opt:
        name = f'pretrain_{key}'
        if key.startswith('network_') and key not in ignored:
            beside = os.path.join(models, os.path.basename(opt['path'][name]))
            if os.path.isfile(beside):
                opt['path'][name] = beside


def _make_folders(paths: Mapping[str, Any]) -> None:
    for key in ('experiments_root', 'models', 'training_states', 'log', 'visualization'):
        if paths.get(key):
            os.makedirs(paths[key], exist_ok=True)


def _newest_whole_state(opt: dict) -> tuple[str, dict] | None:
    for iteration, path in _saved_states(opt['path']['training_states']):
        try:
            state = read_state(path)
            for network in _network_files(opt, iteration):
                if os.path.isfile(network):
                    read_torch_file(network)
                elif run_is_ours(opt):  # a model of others may save its networks as it likes
                    raise ValueError(f'{network} is missing')
        except Exception as error:
            warnings.warn(f'auto_resume passes over {path}: {_first_line(error)}', stacklevel=2)
        else:
            return path, state
    return None


def _saved_states(folder: str) -> Iterator[tuple[int, str]]:
    names = os.listdir(folder) if os.path.isdir(folder) else []
    iterations = [int(stem) for stem, ending in map(os.path.splitext, names) if ending == '.state' and stem.isdigit()]
    for iteration in sorted(iterations, reverse=True):
        yield iteration, os.path.join(folder, f'{iteration}.state')


def _network_files(opt: dict, iteration: int) -> Iterator[str]:
    ignored = opt['path'].get('ignore_resume_networks') or ()
    for key in opt:
        if key.startswith('network_') and key not in ignored:
            yield os.path.join(opt['path']['models'], f'net_{key.removeprefix("network_")}_{iteration}.pth')


def read_state(path: str) -> dict[str, Any]:
    """Read a training state onto the CPU.

    Args:
        path: A ``.state`` file.

    Raises:
        DynqError: If it cannot be read, or was changed since it was written.
        ValueError: If it holds something else, or what no training can go on from.
    """
    state = read_torch_file(path)
    if not isinstance(state, dict) or 'iter' not in state or 'epoch' not in state:
        raise ValueError('it holds no training state')
    for key in ('iter', 'epoch'):
        if type(state[key]) is not int or state[key] < 0:
            raise ValueError(f'its {key} is no whole number from 0')
    for key in ('optimizers', 'schedulers'):
        parts = state.get(key)
        if not isinstance(parts, list) or not all(isinstance(one, dict) for one in parts):
            raise ValueError(f'it lacks the list of {key}')
    for key, kind in _OWN.items():
        if not isinstance(state.get(key), kind | None):
            raise ValueError(f'its {key} is no {kind.__name__}')
    if not all(torch.isfinite(one).all() for one in _tensors(state['optimizers'])):
        raise ValueError('its optimizers hold NaN or infinity')
    return state


def _tensors(content: object) -> Iterator[torch.Tensor]:
    """All tensors within dictionaries and lists."""
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, dict | list | tuple):
        for one in content.values() if isinstance(content, dict) else content:
            yield from _tensors(one)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip('.')
