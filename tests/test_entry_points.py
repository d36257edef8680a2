"""BasicSR's own scripts and ours, run as a user runs them, on four small pictures."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import basicsr
import cv2
import numpy as np
import pytest
import torch

from dynq_basicsr import cli

OPTIONS = """
name: tiny
model_type: SRModel
scale: 2
num_gpu: 0
manual_seed: 0
datasets:
  {phase}:
    name: pairs
    type: PairedImageDataset
    dataroot_gt: {folder}/gt
    dataroot_lq: {folder}/lq
    io_backend: {{type: disk}}
    gt_size: 32
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 2
network_g: {{type: MSRResNet, num_in_ch: 3, num_out_ch: 3, num_feat: 4, num_block: 1, upscale: 2}}
path: {{pretrain_network_g: ~, resume_state: ~}}
train:
  optim_g: {{type: AdamW, lr: 1e-4}}
  scheduler: {{type: MultiStepLR, milestones: [100], gamma: 0.5}}
  total_iter: 4
  pixel_opt: {{type: L1Loss, loss_weight: 1.0, reduction: mean}}
logger: {{print_freq: 1, save_checkpoint_freq: 2, use_tb_logger: false}}
"""
TEST_OPTIONS = OPTIONS + """
val:
  save_img: false
  suffix: ~
  metrics: {{psnr: {{type: calculate_psnr, crop_border: 2}}}}
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Pictures, two option files, and a clone that holds BasicSR's two scripts."""
    folder = tmp_path_factory.mktemp('entry points')
    generator = np.random.default_rng(0)
    for name in ('gt', 'lq', 'clone/basicsr', 'elsewhere'):
        (folder / name).mkdir(parents=True)
    for number in range(4):
        coarse = generator.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / 'gt' / f'{number}.png'), picture)
        cv2.imwrite(str(folder / 'lq' / f'{number}.png'), cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA))
    (folder / 'train.yml').write_text(OPTIONS.format(phase='train', folder=folder))
    (folder / 'test.yml').write_text(TEST_OPTIONS.format(phase='test_1', folder=folder))
    for script in ('train.py', 'test.py'):
        shutil.copy(Path(basicsr.__file__).with_name(script), folder / 'clone' / 'basicsr')
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=folder / 'elsewhere', capture_output=True, text=True,
                          env={**os.environ, 'OMP_NUM_THREADS': '1'}, timeout=180)


@pytest.fixture(scope='module')
def trained(folder) -> Path:
    """The experiment of an unmodified train.py, run to its end, its newest state cut off, and resumed."""
    script = str(folder / 'clone' / 'basicsr' / 'train.py')
    first = run(folder, script, '-opt', str(folder / 'train.yml'))
    assert first.returncode == 0, first.stderr
    experiment = folder / 'clone' / 'experiments' / 'tiny'
    os.truncate(experiment / 'training_states' / '4.state', 200)
    second = run(folder, script, '-opt', str(folder / 'train.yml'), '--auto_resume', '--force_yml',
                 'train:total_iter=6')
    assert second.returncode == 0, second.stderr
    assert 'auto_resume passes over' in second.stderr and 'Resuming training from epoch: 0, iter: 2' in second.stderr
    return experiment


def test_unmodified_script_trains_and_resumes(trained):
    assert {path.name for path in (trained / 'models').iterdir()} >= {'net_g_2.pth', 'net_g_4.pth', 'net_g_6.pth'}
    assert [path.name for path in trained.parent.iterdir()] == ['tiny']  # nothing was moved aside
    state = torch.load(trained / 'training_states' / '6.state', weights_only=True)
    assert state['iter'] == 6 and 'weight_decay' in state['optimizers'][0]['param_groups'][0]


def test_own_tester_writes_below_the_current_directory(folder, trained):
    done = run(folder, '-m', 'dynq_basicsr.test', '-opt', str(folder / 'test.yml'), '--force_yml',
               f'path:pretrain_network_g={trained}/models/net_g_6.pth')
    assert done.returncode == 0, done.stderr
    assert '# psnr:' in done.stderr and list((folder / 'elsewhere' / 'results' / 'tiny').glob('test_tiny_*.log'))


@pytest.mark.skipif(torch.cuda.is_available(), reason='two processes would want two GPUs')
def test_own_trainer_in_two_processes(folder):
    done = run(folder, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '-m',
               'dynq_basicsr.train', '-opt', str(folder / 'train.yml'), '--launcher', 'pytorch')
    assert done.returncode == 0, done.stderr
    assert 'World size (gpu number): 2' in done.stderr
    assert (folder / 'elsewhere' / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth').is_file()


def test_unmodified_script_ends_in_one_sentence(folder):
    done = run(folder, str(folder / 'clone' / 'basicsr' / 'test.py'), '-opt', 'absent.yml')
    assert done.returncode == 1
    assert done.stderr == "dynq_basicsr: error: Option file 'absent.yml' cannot be read: No such file or directory.\n"


@pytest.mark.parametrize('text, expected', [
    (None, "x.yml' cannot be read: No such file or directory."),
    ('', 'x.yml: an option file holds a mapping of options'),
    ('name: [x\n', 'x.yml, line 2: '),
    ('name: !!python/object/apply:os.mkdir [evil]\n', 'x.yml, line 1: the tag !!python/object/apply:os.mkdir is'),
    ('name: x\n', "x.yml: 'model_type' is missing; testing needs it."),
    (b'\x89PNG\xff', 'x.yml cannot be read as YAML'),
])
def test_mistakes_end_in_one_line_and_code_2(tmp_path, monkeypatch, capsys, text, expected):
    if text is not None:
        (tmp_path / 'x.yml').write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(tmp_path)
    before = list(sys.argv)
    assert cli.main(['test', '-opt', 'x.yml']) == 2
    errors = capsys.readouterr().err
    assert errors.startswith('dynq_basicsr: error: ') and expected in errors and len(errors.splitlines()) == 1
    assert sys.argv == before
    assert [path.name for path in tmp_path.iterdir()] == (['x.yml'] if text is not None else [])


def test_full_disk_ends_in_one_line(monkeypatch, capsys):
    def fill_disk(root_path: str) -> None:
        raise OSError(28, 'No space left on device', 'net_g_5.pth')

    monkeypatch.setattr(sys.modules['basicsr.test'], 'test_pipeline', fill_disk)
    assert cli.main(['test', '-opt', 'x.yml']) == 2
    assert capsys.readouterr().err == ('dynq_basicsr: error: net_g_5.pth: No space left on device; '
                                       'make room, or check the path and the disk, and run again.\n')
