"""Refuse option keys that nobody reads, wherever they stand in an option file."""

from __future__ import annotations

from collections.abc import Mapping

from dynq_basicsr.archs.arch_options import check_network
from dynq_basicsr.errors import DynqError, check_keys

_TOP = (
    'name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'datasets', 'network_g', 'path', 'train', 'val', 'logger',
    'dist_params', 'find_unused_parameters', 'use_static_graph',
    # what BasicSR's parse_options and train_pipeline add
    'dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path',
)  # fmt: skip
_PATH = (
    'pretrain_network_g', 'param_key_g', 'strict_load_g', 'resume_state', 'ignore_resume_networks',
    'experiments_root', 'models', 'training_states', 'log', 'visualization', 'results_root', 'root',
)  # fmt: skip
_LOGGER = ('print_freq', 'save_checkpoint_freq', 'use_tb_logger', 'wandb')
_VAL = (
    'val_freq', 'save_img', 'suffix', 'metrics', 'pbar', 'bit_maps',
    'patch_size', 'patch_step', 'patch_batch', 'patch_merge',
)  # fmt: skip


def check_options(opt: Mapping) -> None:
    """Check the keys of an option file of our models.

    The ``train`` section belongs to each model, the data sets to their classes.

    Args:
        opt: BasicSR's options.

    Raises:
        DynqError: Names the section, the key and its nearest match.
    """
    check_keys('option file', opt, _TOP)
    for section, known in (('path', _PATH), ('logger', _LOGGER), ('val', _VAL)):
        check_keys(section, opt.get(section), known)
    if not isinstance(opt.get('network_g'), Mapping):
        raise DynqError('network_g: missing; give the architecture as {type: ..., its options}.')
    check_network('network_g', opt['network_g'])
