"""The compiled kernel: when it is compiled, when not, and what then."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynq_basicsr.numerics import native
from dynq_basicsr.numerics.fake_quantize import fake_quantize
from dynq_basicsr.numerics.native import why_not_native

SCRIPT = 'from dynq_basicsr.numerics.native import *; assert native_kernels() and why_not_native() is None'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder for compiled kernels."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'dynq_basicsr'


@pytest.fixture
def compiler_script(tmp_path, monkeypatch, cache):
    """Make a C compiler that does something first and writes down how it is called; give the calls."""
    if reason := why_not_native():
        pytest.skip(reason)
    real = os.environ.get('CC') or next(filter(None, map(shutil.which, ('cc', 'gcc', 'clang'))))
    file, calls = tmp_path / 'compiler', tmp_path / 'calls'
    calls.touch()

    def make(first='true'):
        file.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{first}\nexec {real} "$@"\n')
        file.chmod(0o755)
        monkeypatch.setenv('CC', str(file))
        return lambda: [line for line in calls.read_text().splitlines() if '-c' in line.split()]

    return make


def build():
    """What a process finds at its first call."""
    return native._kernels_or_reason.__wrapped__()


def test_a_second_process_compiles_nothing(compiler_script, cache, repository):
    compilations = compiler_script()
    for _ in range(2):
        subprocess.run([sys.executable, '-c', SCRIPT], cwd=repository, check=True, timeout=120)
    assert len(compilations()) == 1
    assert [file.suffix for file in cache.iterdir()] == ['.so'], 'nothing else is left behind'


def test_where_nothing_can_be_kept_it_is_compiled_each_time(compiler_script, cache):
    compilations = compiler_script()
    cache.parent.write_text('a file, where a folder should be')
    for number in (1, 2):
        assert build()[0] and len(compilations()) == number


def test_a_compiler_without_openmp_will_do(compiler_script):
    compilations = compiler_script('case "$*" in *-fopenmp\\ *) exit 1;; esac')
    assert build()[0] and '-fopenmp-simd' in compilations()[-1]


def test_a_damaged_library_is_not_used(compiler_script, cache):
    compiler_script()
    build()
    (kept,) = cache.iterdir()
    kept.unlink()  # the one in use stays as it is
    kept.write_bytes(b'no library')
    kernels, reason = build()
    assert kernels or reason


@pytest.mark.parametrize('environment, words', [
    ({'PATH': ''}, 'no C compiler'),
    ({'CC': '/nowhere/cc'}, '/nowhere/cc'),
    ({'CC': 'false'}, 'false ended with exit code 1'),
    ({'CC': 'true'}, 'No such file'),
    ({'CC': '"'}, 'No closing quotation'),
    ({'DYNQ_NATIVE': '0'}, 'DYNQ_NATIVE=0'),
])  # fmt: skip
def test_without_a_compiler_there_is_a_reason_instead(cache, monkeypatch, environment, words):
    monkeypatch.delenv('CC', raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    kernels, reason = build()
    assert kernels is None and words in reason


def test_switched_off_pytorch_computes(repository):
    script = """if True:
        import torch
        from dynq_basicsr.numerics.fake_quantize import fake_quantize
        from dynq_basicsr.numerics.native import why_not_native
        y = fake_quantize(torch.tensor([[0.6, 9.0]]), torch.tensor([[0.5], [-2.0], [1.0]]))
        assert why_not_native() and y.tolist() == [[0.5, 0.5]]
    """
    environment = {**os.environ, 'DYNQ_NATIVE': '0'}
    subprocess.run([sys.executable, '-c', script], cwd=repository, env=environment, check=True, timeout=120)


@pytest.mark.parametrize('right, wrong, which', [
    ('rintf(v)', 'floorf(v)', 'forward'),
    ('at_low += below ? g', 'at_low += above ? g', 'backward'),
])  # fmt: skip
def test_wrong_results_are_found_out(compiler_script, tmp_path, monkeypatch, right, wrong, which):
    compiler_script()
    source = native.SOURCE.read_text()
    assert right in source
    monkeypatch.setattr(native, 'SOURCE', tmp_path / 'wrong.c')
    native.SOURCE.write_text(source.replace(right, wrong))
    kernels, reason = build()
    assert kernels is None and f'the compiled {which} is wrong' in reason


def test_it_shares_the_threads_of_pytorch():
    """One OpenMP runtime in the process, and as many threads as torch.set_num_threads says."""
    if reason := why_not_native():
        pytest.skip(reason)
    if sys.platform != 'linux':
        pytest.skip('threads are counted as Linux lists them')
    x, grid = torch.zeros(4, 100_000), torch.tensor([[0.5], [-2.0], [1.0]])

    def running(number, function, *arguments):
        torch.set_num_threads(number)
        function(*arguments)
        return len(list(Path('/proc/self/task').iterdir()))

    before = torch.get_num_threads()
    try:
        first = running(5, torch.add, x, x)
        assert running(5, fake_quantize, x, grid) == first
        assert running(7, fake_quantize, x, grid) == first + 2
        assert running(7, torch.add, x, x) == first + 2
    finally:
        torch.set_num_threads(before)
