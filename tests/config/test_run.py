"""Whole option files: what BasicSR would fail at in the middle, or take for something else, is found first."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from dynq_basicsr.compat.safe_yaml import OptionLoader
from dynq_basicsr.config.run import RUNS, AdaBMRunOptions, GranularRunOptions, RunOptions, parse
from dynq_basicsr.config.section import Facts
from dynq_basicsr.errors import DynqError

OPTIONS = Path(__file__).parents[2] / 'options'
TRAINING = Facts(is_train=True)


def change(options, path, value):
    *sections, key = path.split(':')
    for section in sections:
        options = options[section]
    if value is ...:
        del options[key]
    else:
        options[key] = value


def read(stem):
    return yaml.load((OPTIONS / f'{stem}.yml').read_text('utf-8'), OptionLoader)


def granular(**changes):
    options = read('granular_edsr_small')
    for path, value in changes.items():
        change(options, path, value)
    return options


@pytest.mark.parametrize('path', sorted(OPTIONS.glob('*.yml')), ids=lambda path: path.stem)
def test_every_option_file_is_right(path):
    options = read(path.stem)
    is_train = 'train' in options
    typed = parse(RUNS.get(options['model_type'], RunOptions), options, Facts(is_train))
    assert typed.name == path.stem and (typed.train is not None) == is_train


@pytest.mark.parametrize('changes, named', [
    ({'name': '../victim'}, "^name: must be a plain name .*, not '../victim'"),
    ({'name': ''}, '^name: must be a plain name'),
    ({'name': 'x' * 300}, '^name: must be a plain name'),
    ({'name': 5}, '^name: must be a plain name .*, not 5'),
    ({'datasets:val:name': '../../escaped'}, r'^datasets\.val\.name: must be a plain name'),
    ({'datasets:val:name': ...}, r'^datasets\.val\.name: missing'),
    ({'val:suffix': 'a/b'}, r'^val\.suffix: must be a plain name'),
    ({'datasets:train:gt_size': 'x'}, r"^datasets\.train\.gt_size: must be a whole number >= 1, not 'x'"),
    ({'datasets:train:gt_size': -48}, r'^datasets\.train\.gt_size: must be a whole number >= 1, not -48'),
    ({'datasets:train:gt_size': 0}, r'^datasets\.train\.gt_size'),
    ({'datasets:train:gt_size': [48]}, r'^datasets\.train\.gt_size: .*, not \[48\]'),
    ({'datasets:train:gt_size': 47}, r'^datasets\.train\.gt_size: 47 is no multiple of scale, 4; give 48'),
    ({'datasets:train:gt_size': ...}, r'^datasets\.train\.gt_size: missing'),
    ({'datasets:train:use_rot': ...}, r'^datasets\.train\.use_rot: missing'),
    ({'datasets:train:use_hflip': 'no'}, r"^datasets\.train\.use_hflip: must be true or false, not 'no'"),
    ({'datasets:train:batch_size_per_gpu': ...}, r'^datasets\.train\.batch_size_per_gpu: missing'),
    ({'datasets:train:batch_size_per_gpu': 0}, r'^datasets\.train\.batch_size_per_gpu: must be'),
    ({'datasets:train:dataset_enlarge_ratio': 0}, r'ratio: must be a whole number from 1 to 1000000, not 0'),
    ({'datasets:train:dataset_enlarge_ratio': 'x'}, r'dataset_enlarge_ratio'),
    ({'datasets:train:dataset_enlarge_ratio': 1e12}, r'dataset_enlarge_ratio'),
    ({'datasets:train:dataset_enlarge_ratio': -1}, r'dataset_enlarge_ratio'),
    ({'datasets:train:colour': 'y'}, r"^datasets\.train: unknown option 'colour'. Did you mean 'color'"),
    ({'datasets:train:color': 'x'}, r'^datasets\.train\.color: must be y, or null'),
    ({'datasets:train:prefetch_mode': 'x'}, r'prefetch_mode: must be one of cpu, cuda, or null'),
    ({'datasets:train:prefetch_mode': 'cuda'}, r'prefetch_mode: cuda, but torch sees no CUDA device'),
    ({'datasets:train:filename_tmpl': 'x4'}, r'filename_tmpl: .x4. must hold {} once'),
    ({'datasets:train:filename_tmpl': '{}{}'}, r'filename_tmpl: .* must hold {} once'),
    ({'datasets:val:persistent_workers': True}, r'datasets\.val\.persistent_workers'),
    ({'datasets:train:io_backend': {'type': 'disk'}},
     r"dataroot_lq: '.*\.lmdb' is an LMDB; set io_backend: {type: lmdb}"),
    ({'datasets:val:io_backend': {'type': 'lmdb'}}, r"datasets\.val\.dataroot_lq: .* does not end in \.lmdb"),
    ({'datasets:val:io_backend': {'type': 'tape'}}, r"io_backend\.type: must be one of disk, lmdb, not 'tape'"),
    ({'datasets:valid': {'type': 'PairedImageDataset', 'name': 'x', 'dataroot_lq': 'x', 'dataroot_gt': 'y'}},
     r'^datasets\.valid: no such phase in training; call it train or val'),
    ({'datasets:train:num_worker_per_gpu': 1e6}, r'num_worker_per_gpu: must be a whole number from 0 to 1024'),
    ({'datasets:train:batch_size_per_gpu': 1e9}, r'batch_size_per_gpu: must be a whole number from 1 to 100000'),
    ({'datasets:train:type': 'SingleImageDataset'}, r'^datasets\.train\.type: SingleImageDataset has no ground truth'),
    ({'datasets:train': {'type': 'LRCalibrationDataset', 'name': 'x', 'dataroot_lq': 'x', 'num_worker_per_gpu': 0,
                         'batch_size_per_gpu': 1}},
     r'^datasets\.train\.type: LRCalibrationDataset has no ground truth, which a training of GranularDQModel needs'),
    ({'train:total_iter': 1e30}, r'^train\.total_iter: must be a whole number from 1 to 1000000000'),
    ({'train:warmup_iter': 1e30}, r'^train\.warmup_iter: must be a whole number from -1 to 1000000000'),
    ({'train:entropy_patches': 1e9}, r'^train\.entropy_patches: must be a whole number from 2 to 10000000'),
    ({'train:calibration_patches': 1e9}, r'^train\.calibration_patches: must be a whole number from 1 to 10000000'),
    ({'val:patch_batch': 1e9}, r'^val\.patch_batch: must be a whole number from 1 to 100000'),
    ({'network_g:quantization': None}, r'^network_g\.policy: activations are float .*no bits to decide'),
    ({'network_g:quantization': {}}, r'^network_g\.policy: activations are float'),
    ({'network_g:quantization': ...}, r'^network_g\.policy: activations are float'),
    ({'scale': 'x'}, "^scale: must be a whole number >= 1, not 'x'"),
    ({'scale': None}, '^scale: must be a whole number >= 1, not None'),
    ({'scale': -2}, '^scale'),
    ({'scale': ...}, '^scale: missing'),
    ({'train:pixel_opt:reduction': 'median'}, r"^train\.pixel_opt\.reduction: must be one of mean, sum, not 'median'"),
    ({'train:pixel_opt:loss_weight': 'x'}, r'^train\.pixel_opt\.loss_weight'),
    ({'train:pixel_opt:loss_weight': -1}, r'^train\.pixel_opt\.loss_weight: must be a number >= 0, not -1'),
    ({'val:save_img': 'false'}, r"^val\.save_img: must be true or false, not 'false'"),
    ({'val:metrics:psnr:better': 'sideways'}, r'^val\.metrics\.psnr\.better: must be one of higher, lower'),
    ({'val:patch_step': 200}, r'^val\.patch_step: 200 leaves gaps between patches of 96'),
    ({'path:strict_load_g': False}, r'^path\.strict_load_g: must be true, not False'),
    ({'path:pretrain_network_g': 5}, r'^path\.pretrain_network_g: must be text, or null, not 5'),
    ({'network_g:quantization:weight': False},
     r'^network_g\.quantization\.weight: must be a mapping of options, not False'),
    ({'network_g:value_range': 0}, r'^network_g\.value_range: must be a number > 0, or null'),
    ({'network_g:output': -1}, r'^network_g\.output: must be a whole number >= 0, text, or null'),
    ({'network_g:backbone': 'EDSR'}, r"^network_g\.backbone: must be a mapping of options, or null, not 'EDSR'"),
    ({'network_g': {'type': 'EDSR'}},
     r"^network_g\.type: must be QuantizedSR in a training of GranularDQModel, not 'EDSR'"),
    ({'network_g:policy': {'type': 'GranularDQ', 'granularity_bits': [4, 5], 'entropy_bits': [3, 9]}},
     r'policy\.entropy_bits'),
    ({'network_g:quantization:activation:bits_range': [5, 8]}, r'^network_g\.policy: bits \[4, .* are not all within'),
    ({'plugins': 'mine.py'}, r"^plugins: must be a list, each text, not 'mine.py'"),
    ({'logger:wandb': {'project': 'x'}}, r'^logger\.wandb\.project: .*use_tb_logger: true'),
    ({'logger:print_freq': 2.5}, r'^logger\.print_freq: must be a whole number'),
])  # fmt: skip
def test_what_cannot_work_is_named(changes, named):
    with pytest.raises(DynqError, match=named):
        parse(GranularRunOptions, granular(**changes), TRAINING)


def test_a_float_network_of_any_policy_may_be_tested():
    options = granular(**{'network_g:quantization': None})
    del options['datasets']['train']
    assert not parse(GranularRunOptions, options, Facts()).network_g.quantization.enabled


@pytest.mark.parametrize('changes', [
    {'plugins': ['mine.py', 'my.module']}, {'network_g:value_range': 255, 'network_g:output': 'sr'}, {'val': ...},
    {'network_g:output': 0}, {'datasets:train:scale': 4, 'scale': ...}, {'val:metrics': None}, {'logger:wandb': None},
    {'network_g:policy': None}, {'network_g:policy': {'type': 'OfAPlugin', 'x': 1}}, {'manual_seed': None},
    {'datasets:train': {'type': 'OfAPlugin', 'name': 'x', 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 1, 'y': {}}},
])  # fmt: skip
def test_what_works_passes(changes):
    options = granular(**changes)
    if changes.get('scale') is ...:
        options['datasets']['val']['scale'] = 4
    parse(GranularRunOptions, options, TRAINING)


def test_cuda_is_there_or_not():
    options = granular(**{'datasets:train:prefetch_mode': 'cuda', 'datasets:train:pin_memory': True})
    parse(GranularRunOptions, options, Facts(is_train=True, cuda=True))
    options['datasets']['train']['pin_memory'] = False
    with pytest.raises(DynqError, match=r'datasets\.train\.pin_memory: must be true with prefetch_mode: cuda'):
        parse(GranularRunOptions, options, Facts(is_train=True, cuda=True))


@pytest.mark.parametrize('package, changes', [
    ('tensorboard', {'logger:use_tb_logger': True}), ('wandb', {'logger:use_tb_logger': True,
    'logger:wandb': {'project': 'x'}}),
])  # fmt: skip
def test_packages_of_loggers_must_be_there(package, changes, monkeypatch):
    options = granular(**changes)
    monkeypatch.setattr('dynq_basicsr.config.logger.is_installed', lambda name: name != package)
    with pytest.raises(DynqError, match=f'needs the package {package}; `pip install {package}`'):
        parse(GranularRunOptions, options, TRAINING)
    monkeypatch.setattr('dynq_basicsr.config.logger.is_installed', lambda name: True)
    parse(GranularRunOptions, options, TRAINING)


def test_whole_numbers_as_floats_become_integers_for_basicsr_too():
    options = granular(**{'val:val_freq': 5e3, 'logger:save_checkpoint_freq': 5e3, 'train:total_iter': 3e3,
    'scale': 4.0,
                          'datasets:train:gt_size': 192.0, 'train:scheduler:milestones': [1e3, 2]})  # fmt: skip
    before = deepcopy(options)
    parse(GranularRunOptions, options, TRAINING)
    assert options == before
    changed = (options['val']['val_freq'], options['scale'], options['datasets']['train']['gt_size'])
    assert [type(one) for one in (*changed, *options['train']['scheduler']['milestones'])] == [int] * 5
    assert type(options['train']['optim_g']['lr']) is float


def test_what_basicsr_adds_is_no_option():
    options = granular()
    options |= {'dist': False, 'rank': 0, 'world_size': 1, 'auto_resume': False, 'is_train': True, 'root_path': '.'}
    options['path'] |= {'experiments_root': 'x', 'models': 'x', 'training_states': 'x', 'log': 'x',
    'visualization': 'x'}
    for key, data in options['datasets'].items():
        data |= {'phase': key, 'scale': 4}
    parse(GranularRunOptions, options, TRAINING)
    with pytest.raises(DynqError, match='unknown option'):
        parse(GranularRunOptions, options | {'ranks': 0}, TRAINING)


def test_files_must_exist_where_asked(tmp_path):
    options = granular(**{'path:pretrain_network_g': 'nowhere.pth'})
    del options['datasets']
    with pytest.raises(DynqError, match=r"path\.pretrain_network_g: no checkpoint at 'nowhere\.pth'"):
        parse(GranularRunOptions, options, Facts(is_train=True, files=True))
    options = granular(**{'datasets:val:dataroot_lq': str(tmp_path / 'no')})
    options['datasets'] = {'val': options['datasets']['val']}
    with pytest.raises(DynqError, match=r'datasets\.val\.dataroot_lq: no folder or LMDB at'):
        parse(GranularRunOptions, options, Facts(is_train=True, files=True))


@pytest.mark.parametrize('changes, named', [
    ({'path:pretrain_network_g': None},
     r'path\.pretrain_network_g: missing; AdaBMModel wants the trained float weights'),
    ({'train:patch_size': 104}, r'train\.patch_size: 104 is more than datasets\.train\.patch_size, 96'),
    ({'train:cache_teacher': True}, r'train\.cache_teacher: .*fixed_crops: true'),
    ({'network_g:quantization': {}}, r'network_g\.quantization: AdaBMModel wants weights or activations below 32 bits'),
    ({'datasets:train:num_imges': 1}, r"datasets\.train: unknown option 'num_imges'"),
])  # fmt: skip
def test_adabm_needs_more(changes, named):
    options = read('adabm_edsr_x4_w4a4')
    for path, value in changes.items():
        change(options, path, value)
    with pytest.raises(DynqError, match=named):
        parse(AdaBMRunOptions, options, TRAINING)


def test_adabm_without_validation():
    options = read('adabm_edsr_x4_w4a4')
    del options['val'], options['datasets']['val']
    parse(AdaBMRunOptions, options, TRAINING)


def test_phases_of_tests():
    options = read('test_granular_x4')
    parse(RunOptions, options, Facts())
    options['datasets'] = {'train': options['datasets']['test_1']}
    with pytest.raises(DynqError, match=r'datasets\.train: no such phase in testing; call it val or test'):
        parse(RunOptions, options, Facts())
