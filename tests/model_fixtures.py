"""A tiny EDSR, real photographs, and the option files of both models as dictionaries."""

from copy import deepcopy

import basicsr  # noqa: F401  (fills the registries)
import cv2
import pytest
import torch
from basicsr.archs import build_network
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model
from skimage import data

from dynq_basicsr import plugin
from dynq_basicsr.quantization.run import RunHolder

plugin.register()

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 2, 'upscale': 2}
QUANTIZED = {
    'type': 'QuantizedSR',
    'backbone': EDSR,
    'quantization': {'weight': {'bits': 4}, 'activation': {'bits': 4}},
    'policy': {'type': 'AdaBM'},
}
METRICS = {
    'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True},
    'fab': {'type': 'calculate_fab', 'better': 'lower'},
    'bitops': {'type': 'calculate_bitops'},
}
GRANULAR_TRAIN = {
    'optim_g': {'type': 'AdamW', 'lr': 1e-4, 'weight_decay': 0.01},
    'scheduler': {'type': 'MultiStepLR', 'milestones': [3], 'gamma': 0.5},
    'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
    'total_iter': 4, 'entropy_patches': 24, 'calibration_patches': 8,
}  # fmt: skip


@pytest.fixture(scope='session')
def photographs(tmp_path_factory):
    """Folders HR and LR (half the size) of three photographs, 80 x 104 and less in LR."""
    root = tmp_path_factory.mktemp('photographs')
    for folder in ('HR', 'LR'):
        (root / folder).mkdir()
    for index, name in enumerate(('astronaut', 'chelsea', 'coffee')):
        photo = getattr(data, name)()[60 : 220 - 32 * index, 40:248, ::-1]
        height, width = photo.shape[:2]
        small = cv2.resize(photo, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        assert cv2.imwrite(str(root / 'HR' / f'{name}.png'), photo)
        assert cv2.imwrite(str(root / 'LR' / f'{name}.png'), small)
    return root


@pytest.fixture(scope='session')
def float_checkpoint(tmp_path_factory):
    """A float checkpoint as BasicSR writes it."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp('float') / 'edsr.pth'
    torch.save({'params': build_network(EDSR).state_dict()}, path)
    return path


@pytest.fixture(scope='session')
def community_checkpoint(tmp_path_factory):
    """A tiny DAT x2 as its authors save it: a transformer that only spandrel recognises."""
    reason = 'spandrel (extra community) is not installed'
    dat = pytest.importorskip('spandrel.architectures.DAT', reason=reason).DAT
    torch.manual_seed(3)
    net = dat(embed_dim=32, depth=[2], num_heads=[2], split_size=[2, 4], img_size=16, expansion_factor=2, upscale=2)
    path = tmp_path_factory.mktemp('community') / 'dat.pth'
    torch.save({'params': net.state_dict()}, path)
    return path


def merge(options, changes):
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(options.get(key), dict):
            merge(options[key], value)
        else:
            options[key] = value
    return options


@pytest.fixture
def train_options(tmp_path, float_checkpoint):
    """Options of ``AdaBMModel`` as BasicSR hands them over; sections may be changed."""

    def build(**changes):
        root = tmp_path / 'experiment'
        for folder in ('models', 'training_states', 'visualization'):
            (root / folder).mkdir(parents=True, exist_ok=True)
        options = {
            'name': 'tiny', 'model_type': 'AdaBMModel', 'scale': 2, 'num_gpu': 0, 'dist': False, 'rank': 0,
            'world_size': 1, 'is_train': True, 'auto_resume': False, 'network_g': deepcopy(QUANTIZED),
            'path': {'pretrain_network_g': str(float_checkpoint), 'experiments_root': str(root),
                     'models': str(root / 'models'), 'training_states': str(root / 'training_states'),
                     'visualization': str(root / 'visualization'), 'log': str(root)},
            'train': {'total_iter': 8, 'calibration_iter': 2, 'stage_iter': 1, 'precision': 'float32'},
            'val': {'val_freq': 100, 'save_img': False, 'patch_size': 48, 'metrics': deepcopy(METRICS)},
            'logger': {'print_freq': 1, 'save_checkpoint_freq': 100, 'use_tb_logger': False},
        }  # fmt: skip
        return merge(options, changes)

    return build


@pytest.fixture
def test_options(tmp_path):
    """Options of ``QuantizedModel`` for testing a checkpoint."""

    def build(checkpoint, **changes):
        root = tmp_path / 'results'
        options = {
            'name': 'tiny_test', 'model_type': 'QuantizedModel', 'scale': 2, 'num_gpu': 0, 'dist': False, 'rank': 0,
            'world_size': 1, 'is_train': False, 'network_g': deepcopy(QUANTIZED),
            'path': {'pretrain_network_g': str(checkpoint), 'results_root': str(root), 'log': str(root),
                     'visualization': str(root / 'visualization')},
            'val': {'save_img': False, 'suffix': None, 'patch_size': 48, 'metrics': deepcopy(METRICS)},
        }  # fmt: skip
        return merge(options, changes)

    return build


@pytest.fixture
def loader(photographs):
    """Build BasicSR's loader over the three pairs, or over the LR images alone."""

    def build(paired=True, name='photographs', root=photographs):
        options = {
            'name': name, 'type': 'PairedImageDataset' if paired else 'SingleImageDataset', 'phase': 'val', 'scale': 2,
            'dataroot_lq': str(root / 'LR'), 'io_backend': {'type': 'disk'},
        }  # fmt: skip
        options |= {'dataroot_gt': str(root / 'HR')} if paired else {}
        return build_dataloader(build_dataset(options), options, num_gpu=0, dist=False, sampler=None, seed=0)

    return build


@pytest.fixture
def batches(photographs):
    """Crops of the LR photographs, one batch (2, 3, 32, 32) an iteration."""

    def build(count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        images = [
            torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1).float() / 255
            for path in sorted((photographs / 'LR').iterdir())
        ]

        def crop():
            image = images[int(torch.randint(len(images), (), generator=generator))]
            top, left = (int(torch.randint(side - 31, (), generator=generator)) for side in image.shape[1:])
            return image[:, top : top + 32, left : left + 32]

        return [{'lq': torch.stack([crop(), crop()])} for _ in range(count)]

    return build


@pytest.fixture
def tapped():
    """Which modules of a network tell their outputs as features."""

    def find(net):
        def hooks(module):
            return [getattr(hook, '__func__', None) for hook in module._forward_hooks.values()]

        return [module for module in net.modules() if RunHolder.see_feature in hooks(module)]

    return find


@pytest.fixture
def train():
    """What BasicSR's loop does with a model; returns it."""

    def run(options_or_model, batches, start=1, watch=None):
        model = build_model(options_or_model) if isinstance(options_or_model, dict) else options_or_model
        for iteration, batch in enumerate(batches, start):
            model.update_learning_rate(iteration, warmup_iter=-1)
            model.feed_data(batch)
            model.optimize_parameters(iteration)
            if watch:
                watch(iteration, model)
        return model

    return run


@pytest.fixture
def granular_options(train_options, photographs):
    """Options of ``GranularDQModel`` on three photographs."""

    def build(train=None, policy=None, **changes):
        options = train_options(model_type='GranularDQModel')
        options['network_g']['policy'] = policy or {'type': 'GranularDQ'}
        options['network_g']['quantization'] = {
            'weight': {'bits': 8}, 'activation': {'bits': 8, 'quantizer': 'learned_step'}, 'rounding_gradient': 'tanh'
        }  # fmt: skip
        options['train'] = deepcopy(GRANULAR_TRAIN) | (train or {})
        options['datasets'] = {'train': {
            'name': 'photographs', 'type': 'PairedImageDataset', 'phase': 'train', 'scale': 2, 'gt_size': 64,
            'use_hflip': True, 'use_rot': True, 'dataroot_gt': str(photographs / 'HR'),
            'dataroot_lq': str(photographs / 'LR'), 'io_backend': {'type': 'disk'}, 'batch_size_per_gpu': 2,
            'num_worker_per_gpu': 0,
        }}  # fmt: skip
        return options | changes

    return build


@pytest.fixture
def pairs():
    """Batches of LR and GT, random but fixed."""

    def build(count):
        generator = torch.Generator().manual_seed(3)
        lows = [torch.rand(3, 3, 24, 24, generator=generator) for _ in range(count)]
        return [{'lq': low, 'gt': torch.nn.functional.interpolate(low, scale_factor=2)} for low in lows]

    return build
