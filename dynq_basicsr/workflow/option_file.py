"""The option file that does through BasicSR what a call of ``dynq_basicsr.quantize`` did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from dynq_basicsr.compat.safe_yaml import OptionDumper
from dynq_basicsr.workflow.recipes import BATCH


def option_file(
    name: str, backbone: Mapping, weights: Path, sections: Mapping[str, Mapping], folder: Path, images: int, patch: int,
    scale: int, seed: int, value_range: float = 1.0, output: int | str | None = None, plugins: Sequence[str] = (),
) -> str:  # fmt: skip
    """Write an option file of ``AdaBMModel``.

    Args:
        name: Of the experiment.
        backbone: Architecture and options.
        weights: The float checkpoint.
        sections: ``quantization``, ``policy`` and ``train``.
        folder: Of the LR images.
        images: How many of them calibrate.
        patch: Side of their crops, pixels.
        scale: The enlargement.
        seed: Of BasicSR's generators.
        value_range: What the backbone takes for white.
        output: Which entry of its result is the image.
        plugins: Files and modules with registrations of the user's.

    Returns:
        YAML, with how to run it in its first lines.
    """
    options = {
        'name': name,
        'model_type': 'AdaBMModel',
        'scale': scale,
        'num_gpu': 'auto',
        'manual_seed': seed,
        'datasets': {
            'train': {
                'name': 'calibration',
                'type': 'LRCalibrationDataset',
                'dataroot_lq': str(folder),
                'io_backend': {'type': 'disk'},
                'num_images': images,
                'patch_size': patch,
                'use_hflip': True,
                'use_rot': True,
                'num_worker_per_gpu': 0,
                'batch_size_per_gpu': min(BATCH, images),
            }
        },
        'network_g': {
            'type': 'QuantizedSR',
            'backbone': dict(backbone),
            'quantization': sections['quantization'],
            'policy': sections['policy'],
            **({'value_range': value_range} if value_range != 1 else {}),
            **({'output': output} if output is not None else {}),
        },
        'path': {'pretrain_network_g': str(weights), 'resume_state': None},
        'train': sections['train'],
        'logger': {'print_freq': 10, 'save_checkpoint_freq': 100, 'use_tb_logger': False},
    }
    if plugins:
        options = {'plugins': [str(one) for one in plugins], **options}
    text = yaml.dump(options, Dumper=OptionDumper, sort_keys=False, allow_unicode=True, width=120)
    return f'# dynq train -opt THIS_FILE, or python basicsr/train.py -opt THIS_FILE\n{text}'
