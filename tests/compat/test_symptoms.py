"""Every symptom shows without the repairs, which proves that the provocation works, and is gone with them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynq_basicsr._autoload import VARIABLE

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason='shows only where torch sees no GPU')


def run_without_hook(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True,
                          env={**os.environ, VARIABLE: '0'})


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> subprocess.CompletedProcess:
    done = run_without_hook(str(Path(__file__).with_name('symptoms.py')), str(tmp_path_factory.mktemp('symptoms')))
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope='module')
def before(run) -> dict:
    return json.loads(run.stdout.splitlines()[-1])['before']


@pytest.fixture(scope='module')
def after(run) -> dict:
    return json.loads(run.stdout.splitlines()[-1])['after']


def test_operator_nms_and_functional_tensor():
    code = ('import torch, torchvision\n'
            'print(torchvision.extension._has_ops())\n'
            'import torchvision.transforms.functional_tensor')
    broken = run_without_hook('-c', code)
    if 'True' not in broken.stdout:  # a torchvision whose operators load never shows the first of the two
        assert 'operator torchvision::nms does not exist' in broken.stderr
    else:
        assert "No module named 'torchvision.transforms.functional_tensor'" in broken.stderr
    install = 'from dynq_basicsr import _autoload; _autoload.install(force=True)\n'
    check = ('\nfrom torchvision.transforms.functional_tensor import rgb_to_grayscale\n'
             'print(rgb_to_grayscale(torch.ones(1, 3, 2, 2)).shape)')
    repaired = run_without_hook('-c', install + code + check)
    assert repaired.returncode == 0 and 'torch.Size([1, 1, 2, 2])' in repaired.stdout, repaired.stderr


def test_option_file_runs_python_code(before, after):
    assert before['python_tag'] == 'accepted' and 'tag_was_run' in before['code_that_ran']
    assert after['code_that_ran'] == []
    assert after['python_tag'].startswith('DynqError: options.yml, line 11: the tag !!python/object/apply:os.mkdir')


def test_number_without_a_dot_is_text(before, after):
    assert (before['no_dot'], after['no_dot']) == ('str', 'float')


def test_force_yml_runs_python_code(before, after):
    assert 'value_was_run' in before['code_that_ran'] and 'value_was_run' not in after['code_that_ran']


def test_force_yml_values(before, after):
    assert before['force_yml_values'].startswith(('KeyError', 'ValueError'))
    assert after['force_yml_values'] == [1e-3, -1, 'a=b', 1e-3, None, 'text']


def test_local_rank_with_a_hyphen(before, after):
    assert (before['local_rank'], after['local_rank']) == ('SystemExit: 2', 'accepted')


def test_auto_resume_elsewhere_and_with_a_cut_off_state(run, before, after):
    assert before['resume'] is None
    assert after['resume'] == 10  # not 12, which is cut off, nor 2, which sorts behind 10 as text
    assert 'auto_resume passes over' in run.stderr and '12.state' in run.stderr


@without_gpu
def test_resume_not_compiled_with_cuda(before, after):
    assert 'AssertionError' in before['resume_named'] and after['resume_named'] == 10


def test_resumed_run_sees_other_batches(before, after):
    assert before['interrupted_epoch'] == [0, 1, 2, 3] and after['interrupted_epoch'] == [2, 3]


def test_optimizer_is_not_supported(before, after):
    assert before['optimizer'].startswith('NotImplementedError') and after['optimizer'] == 'AdamW'


@without_gpu
def test_integer_modulo_by_zero_without_gpu(before, after):
    assert before['launcher'].startswith('ZeroDivisionError') and after['launcher'] == 'gloo'


@without_gpu
def test_ddp_wants_a_cuda_device(before, after):
    assert before['ddp'].startswith('AssertionError') and after['ddp'] == 'DistributedDataParallel'
