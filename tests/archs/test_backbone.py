"""A network, and what it was built from."""

import pytest
from torch import nn

from dynq_basicsr.archs.backbone import Backbone
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError

COMPACT = {'type': 'SRVGGNetCompact', 'num_feat': 8, 'num_conv': 3, 'upscale': 2}


def test_what_is_built_already_is_taken_as_it_is():
    built = Backbone.of(COMPACT)
    assert Backbone.of(built) is built
    net = QuantizedSR(built)
    assert net.backbone is built.network
    assert net.description == QuantizedSR(COMPACT).description
    assert net.description['backbone'] == built.description == {
        **COMPACT, 'num_in_ch': 3, 'num_out_ch': 3, 'act_type': 'prelu'
    }  # fmt: skip


def test_a_module_is_described_by_its_class():
    given = Backbone.of(nn.Conv2d(3, 3, 3, padding=1))
    assert given.options is None and given.description == {'type': 'Module', 'class': 'torch.nn.modules.conv.Conv2d'}


def test_options_that_build_nothing():
    with pytest.raises(DynqError, match='no registered architecture'):
        Backbone.of({'type': 'SRVGGNetCompakt'})
