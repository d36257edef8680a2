"""The option file that does through BasicSR what a call of ``dynq_basicsr.quantize`` did, and its list of pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml

from dynq_basicsr.compat.safe_yaml import OptionDumper
from dynq_basicsr.config.values import is_plain_name
from dynq_basicsr.plugins import is_file
from dynq_basicsr.workflow.recipes import BATCH


def option_file(
    folder: Path, pictures: Path, report: Mapping, scale: int, device: torch.device, seed: int,
    plugins: Sequence[str | os.PathLike] = (),
) -> str:  # fmt: skip
    """Write an option file of ``AdaBMModel`` that sees the same crops of the same pictures.

    All paths are absolute, so that it may be run from anywhere.

    Args:
        folder: What was made; its name is the run's, if it can be.
        pictures: Where the list of the pictures will lie.
        report: What ``workflow.make`` told; the network came from a checkpoint, the pictures from files.
        scale: The enlargement.
        device: Where it was calibrated.
        seed: Of windows and crops, and of BasicSR's generators.
        plugins: Files and modules with registrations of the user's.

    Returns:
        YAML, with how to run it in its first lines.
    """
    name, sections = folder.resolve().name, report['sections']
    options = {
        'name': name if is_plain_name(name) else 'quantized',
        'model_type': 'AdaBMModel',
        'scale': scale,
        'num_gpu': 1 if device.type == 'cuda' else 0,
        'manual_seed': seed,
        'datasets': {
            'train': {
                'name': 'calibration',
                'type': 'LRCalibrationDataset',
                'meta_info_file': os.path.abspath(pictures),
                'io_backend': {'type': 'disk'},
                'num_images': len(report['files']),
                'convert': True,
                **({'color': 'y'} if report['channels'] == 1 else {}),
                'patch_size': report['patch'],
                'num_crops': BATCH * sections['train']['total_iter'],
                'use_hflip': True,
                'use_rot': True,
                'seed': seed,
                'num_worker_per_gpu': 0,
                'batch_size_per_gpu': BATCH,
            }
        },
        'network_g': {
            'type': 'QuantizedSR',
            'backbone': _absolute(report['backbone']),
            'quantization': sections['quantization'],
            'policy': sections['policy'],
            **({'value_range': report['value_range']} if report['value_range'] != 1 else {}),
            **({'output': report['output']} if report['output'] is not None else {}),
        },
        'path': {'pretrain_network_g': os.path.abspath(report['weights']), 'resume_state': None},
        'train': sections['train'],
        'logger': {'print_freq': 10, 'save_checkpoint_freq': 100, 'use_tb_logger': False},
    }
    notes = [
        'dynq train -opt THIS_FILE, or python basicsr/train.py -opt THIS_FILE',
        'calibrates and fine-tunes as dynq quantize did: the same crops of the same pictures, in the same order.',
    ]
    if plugins:
        files = [str(Path(one).expanduser().absolute()) if is_file(one) else str(one) for one in plugins]
        options = {'plugins': files, **options}
        if not all(map(is_file, plugins)):
            notes.append(f'Modules of its plugins were looked for in {os.getcwd()!r}, too; run it from there.')
    if device.type == 'cuda' and device.index:
        notes.append(f'It was GPU {device.index}: set CUDA_VISIBLE_DEVICES={device.index}.')
    text = yaml.dump(options, Dumper=OptionDumper, sort_keys=False, allow_unicode=True, width=120)
    return ''.join(f'# {note}\n' for note in notes) + text


def picture_list(files: Sequence[Path]) -> bytes:
    """A list of files as ``meta_info_file`` takes it: one path a line, absolute.

    Args:
        files: In the order in which calibration sees them; no name has a line break.
    """
    return ''.join(f'{os.path.abspath(file)}\n' for file in files).encode(errors='surrogateescape')


def _absolute(backbone: Mapping) -> dict[str, object]:
    """Options of an architecture, whatever directory they are read in."""
    return {**backbone, 'path': os.path.abspath(backbone['path'])} if backbone['type'] == 'Spandrel' else {**backbone}
