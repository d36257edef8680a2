"""Keys that nobody reads are refused, wherever they stand."""

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.option_checks import check_options


@pytest.mark.parametrize('changes, named', [
    ({'modell_type': 'x'}, "'modell_type'.*'model_type'"),
    ({'val': {'patch_sise': 96}}, "val: unknown option 'patch_sise'.*'patch_size'"),
    ({'path': {'pretrain_network': 'x'}}, "path: unknown option 'pretrain_network'.*'pretrain_network_g'"),
    ({'logger': {'print_frequency': 1}}, "logger: unknown option 'print_frequency'.*'print_freq'"),
    ({'network_g': {'bakbone': {}}}, "network_g: unknown option 'bakbone'.*'backbone'"),
    ({'network_g': {'type': 'QuantisedSR'}}, "network_g.type: .*'QuantisedSR'.*'QuantizedSR'"),
    ({'network_g': None}, 'network_g'),
    ({'val': [1]}, 'val'),
])  # fmt: skip
def test_unknown_keys_are_named(train_options, changes, named):
    with pytest.raises(DynqError, match=named):
        check_options(train_options(**changes))


def test_the_options_of_these_tests_are_known(train_options, test_options):
    check_options(train_options())
    check_options(test_options('net.pth'))
