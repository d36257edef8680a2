"""Without spandrel everything else works, and what needs it says what to install."""

import subprocess
import sys

import pytest
from basicsr.archs import build_network

from dynq_basicsr import plugin
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError

plugin.register()


def test_registration_does_not_import_spandrel():
    code = 'import sys, basicsr; from dynq_basicsr import plugin; plugin.register(); print("spandrel" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.split()[-1] == 'False'


@pytest.mark.parametrize('network', [
    {'type': 'HAT', 'upscale': 2}, {'type': 'Spandrel', 'path': 'x.pth'},
], ids=['HAT', 'Spandrel'])  # fmt: skip
def test_what_to_install_is_said(network, monkeypatch):
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    monkeypatch.setitem(sys.modules, 'spandrel.architectures.HAT', None)
    for build in (build_network, QuantizedSR):
        with pytest.raises(DynqError, match=r"need spandrel .*pip install 'dynq_basicsr\[community\]'\.$"):
            build(dict(network))
