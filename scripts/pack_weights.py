"""Turn a network that BasicSR trained into one safetensors file that says how to build it.

    python scripts/pack_weights.py experiments/train_edsr_small_x4

reads ``models/net_g_latest.pth`` and the option file that BasicSR copied beside it, and writes the embedded default
network. The file holds bare float32 keys; its metadata field ``network_g`` is the option file's section as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
import yaml
from safetensors.torch import save

from dynq_basicsr.errors import DynqError

DEFAULT_OUT = Path(__file__).resolve().parent.parent / 'dynq_basicsr' / 'weights' / 'edsr_small_x4.safetensors'


def read_architecture(experiment: Path) -> dict:
    """The ``network_g`` section of the option file in an experiment folder.

    Raises:
        DynqError: If there is not exactly one option file, it is not plain YAML, or it has no such section.
    """
    found = sorted(experiment.glob('*.yml'))
    if len(found) != 1:
        raise DynqError(f'{experiment} holds {len(found)} option files (*.yml); expected the one that BasicSR copied.')
    try:
        options = yaml.safe_load(found[0].read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise DynqError(f'{found[0]} is not plain YAML: {" ".join(str(error).split())}') from error
    if not isinstance(options, dict) or 'type' not in (options.get('network_g') or {}):
        raise DynqError(f'{found[0]} has no network_g.type; name the experiment of a network.')
    return options['network_g']


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The float32 state dict in a file that BasicSR saved; moving averages are preferred where there are any.

    Raises:
        DynqError: If the file is missing, unreadable, no state dict, or holds NaN or Inf.
    """
    if not path.is_file():
        raise DynqError(f'{path} does not exist; train the network first or name another --checkpoint.')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError) as error:
        raise DynqError(f'{path} is no readable checkpoint; it may be cut short, save it again.') from error
    if isinstance(content, dict):
        content = content.get('params_ema', content.get('params', content))
    if not isinstance(content, dict) or not content or not all(torch.is_tensor(v) for v in content.values()):
        raise DynqError(f'{path} holds no network weights; expected the net_g_*.pth of an experiment.')
    for key, value in content.items():
        if not torch.isfinite(value).all():
            raise DynqError(f'{path}: {key} holds NaN or Inf; pack an earlier checkpoint.')
    return {key: value.float().contiguous() for key, value in content.items()}


def pack(experiment: Path, checkpoint: str = 'net_g_latest.pth', out: Path = DEFAULT_OUT) -> int:
    """Write one safetensors file from an experiment folder.

    Args:
        experiment: Folder that BasicSR's trainer wrote.
        checkpoint: File name inside its ``models``.
        out: File to write; replaced in one step, so that it is never half-written.

    Returns:
        Bytes written.

    Raises:
        DynqError: On anything that makes the network unusable; nothing is written then.
    """
    if not experiment.is_dir():
        raise DynqError(f'{experiment} is not an experiment folder; name the one that BasicSR trained into.')
    architecture = read_architecture(experiment)
    content = save(read_state(experiment / 'models' / checkpoint), {'network_g': json.dumps(architecture)})
    aside = out.with_name(f'.{out.name}.unfinished')
    try:
        aside.write_bytes(content)
        os.replace(aside, out)
    finally:
        aside.unlink(missing_ok=True)
    return len(content)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('experiment', type=Path, help='experiment folder of BasicSR, e.g. experiments/NAME')
    parser.add_argument('--checkpoint', default='net_g_latest.pth', help='file in its models/ (default: %(default)s)')
    parser.add_argument('--out', type=Path, default=DEFAULT_OUT, help='file to write (default: the embedded network)')
    given = parser.parse_args(arguments)
    try:
        size = pack(given.experiment, given.checkpoint, given.out)
    except (DynqError, OSError) as error:
        print(f'pack_weights.py: {error}', file=sys.stderr)
        return 2
    print(f'{given.out}: {size} bytes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
