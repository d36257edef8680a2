"""A setting of glibc, where there is one."""

import sys

import pytest

from dynq_basicsr.numerics import allocator


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='a setting of glibc')
def test_it_takes_effect_on_linux_and_may_be_repeated():
    assert allocator.keep_freed_memory() in (True, False)
    assert allocator.keep_freed_memory() == allocator.keep_freed_memory()


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr(allocator.sys, 'platform', 'darwin')
    assert allocator.keep_freed_memory() is False


def test_a_library_without_it_is_no_error(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, 'CDLL', lambda name: object())
    assert allocator.keep_freed_memory() is False
