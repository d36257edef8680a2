"""From a float network and pictures to a quantized one."""

import copy
import sys

import pytest
import torch
from torch import nn

from dynq_basicsr import quantize
from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.errors import DynqError
from dynq_basicsr.workflow import make as module
from dynq_basicsr.workflow.make import choose_device
from dynq_basicsr.workflow.recipes import METHODS


@pytest.fixture
def short(monkeypatch):
    """Recipes whose fine-tuning takes four iterations."""
    for recipes in METHODS.values():
        for recipe in recipes.values():
            monkeypatch.setitem(recipe, 'tuning', min(recipe['tuning'], 4))


def state(quantized):
    return quantized.network.state_dict()


def test_a_checkpoint_and_pictures(compact, photos, short):
    made = quantize(compact, photos, device='cpu')
    report = made.report
    assert made.network.calibrated and not made.network.training
    assert (report['images'], report['held_out'], report['patch']) == (6, 1, 56)
    assert 2 <= report['bits'] <= 8 and 10 < report['psnr'] < 100
    assert report['sections']['train']['total_iter'] == 3 + 4
    assert set(report['stages']) == {'calibration', 'joint'}


@pytest.mark.parametrize(('method', 'recipe'), [(m, r) for m, recipes in METHODS.items() for r in recipes])
def test_every_method(method, recipe, compact, photos, short):
    made = quantize(compact, photos[:3], method=method, recipe=recipe, bits=6, scope='full', device='cpu')
    assert made.report['bits'] == 6 or method == 'adabm'
    assert made.report['psnr'] > 15


def test_eight_bits_agree_better_than_two(compact, photos, short):
    fine, coarse = (quantize(compact, photos, bits=bits, method='minmax', device='cpu') for bits in (8, 2))
    assert fine.report['psnr'] > coarse.report['psnr'] + 10


def test_the_same_call_gives_the_same_network(compact, photos, short):
    first, again = (quantize(compact, photos, device='cpu') for _ in range(2))
    for name, value in state(first).items():
        assert torch.equal(value, state(again)[name]), name
    other = quantize(compact, photos, device='cpu', seed=2)
    assert any(not torch.equal(value, state(other)[name]) for name, value in state(first).items())


def test_a_module_stays_as_it_is(photos, short):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip
    before = {name: value.clone() for name, value in net.state_dict().items()}
    made = quantize(net.train(), photos, device='cpu')
    assert net.training and type(net[2]) is nn.Conv2d
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert made(torch.rand(1, 3, 20, 24)).shape == (1, 3, 40, 48)


def test_a_network_of_luma(photos, short):
    net = build_backbone({'type': 'SRVGGNetCompact', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 8, 'num_conv': 3,
                          'upscale': 2})  # fmt: skip
    made = quantize(net, photos, device='cpu')
    assert made.channels == 1 and made(torch.rand(1, 1, 20, 24)).shape == (1, 1, 40, 48)


class Interrupted(KeyboardInterrupt):
    pass


@pytest.mark.parametrize('after', [4, 6])
def test_an_interrupted_call_goes_on(after, compact, photos, short, tmp_path, monkeypatch):
    whole, work = quantize(compact, photos, device='cpu'), tmp_path / 'work'
    step = module.PostTraining.step

    def interrupted(self, iteration, *rest):
        if iteration > after:
            raise Interrupted
        return step(self, iteration, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module.PostTraining, 'step', interrupted)
        with pytest.raises(Interrupted):
            quantize(compact, photos, device='cpu', work=work)
    assert work.is_file()
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(module.PostTraining, 'step', lambda self, i, *rest: seen.append(i) or step(self, i, *rest))
        resumed = quantize(compact, photos, device='cpu', work=work)
    assert seen == list(range(after + 1, 8))
    with monkeypatch.context() as patch:
        patch.setattr(module.PostTraining, 'step', None)
        complete = quantize(compact, photos, device='cpu', work=work)
    for name, value in state(whole).items():
        assert torch.equal(value, state(resumed)[name]) and torch.equal(value, state(complete)[name]), name
    assert complete.report['bits'] == whole.report['bits'] and complete.report['psnr'] == whole.report['psnr']


@pytest.mark.parametrize('damage', ['other', 'cut'])
def test_what_belongs_to_another_call_is_not_taken_up(damage, compact, photos, short, tmp_path):
    work = tmp_path / 'work'
    if damage == 'other':
        torch.save({'identity': 'of another', 'iteration': 5}, work)
    else:
        work.write_bytes(b'PK\x03\x04 cut off')
    made = quantize(compact, photos, device='cpu', work=work)
    assert made.report['stages']['calibration'] > 0


def test_devices():
    assert choose_device('cpu').type == 'cpu'
    assert choose_device('auto').type in ('cpu', 'cuda')
    with pytest.raises(DynqError, match='is not usable here'):
        choose_device('strange')


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        ({'scale': 3}, 'enlarges by 2, not 3'),
        ({'device': 'meta'}, 'is not usable here'),
        ({'device': 5.5}, 'is not usable here'),
        ({'method': ['adabm']}, 'method: must be one of'),
        ({'method': 'adabn'}, "Did you mean 'adabm'"),
        ({'output': 0}, '^output: SRVGGNetCompact gives one tensor, which has no entry 0; leave it out'),
        ({'output': 'x'}, "^output: SRVGGNetCompact gives one tensor, which has no entry 'x'"),
        ({'recipe': 'x' * 500}, r'recipe: adabm has fast and plus and paper, not .{1,80}$'),
    ],
)
def test_what_does_not_fit(options, told, compact, photos):
    with pytest.raises(DynqError, match=told):
        quantize(compact, photos, **{'device': 'cpu', **options})


@pytest.mark.parametrize('model', [None, {}, len])
def test_what_is_no_network(model, photos):
    with pytest.raises(DynqError, match='must be a checkpoint or a torch.nn.Module'):
        quantize(model, photos)


def test_networks_of_other_precision_and_wrapped_ones(compact, photos):
    net = build_backbone({'type': 'SRVGGNetCompact', 'num_feat': 8, 'num_conv': 3, 'upscale': 2})
    for model in (copy.deepcopy(net).double(), copy.deepcopy(net).bfloat16(), nn.DataParallel(net)):
        assert quantize(model, photos, method='minmax', device='cpu').network.scale == 2
    with pytest.raises(DynqError, match='TorchScript'):
        quantize(torch.jit.trace(net, torch.rand(1, 3, 8, 8)), photos)


def test_a_range_that_seems_wrong_is_told(photos, caplog):
    class Enlarging(nn.Module):
        """Trained, one might say: it enlarges values in [0, 1]."""

        def __init__(self):
            super().__init__()
            self.head, self.one, self.two, self.last = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
            for layer in self.children():
                nn.init.dirac_(layer.weight)
                nn.init.zeros_(layer.bias)

        def forward(self, x):
            y = self.two(self.one(self.head(x)).clamp(-0.1, 1.1))
            return self.last(nn.functional.interpolate(y, scale_factor=2, mode='bicubic'))

    for value_range, told in ((255, True), (1, False), (None, False)):
        caplog.clear()
        quantize(Enlarging(), photos, method='minmax', value_range=value_range, device='cpu')
        assert ('Enlarging works on values from 0 to 1, as ' in caplog.text) == told
        assert ('but 0 to 255 was assumed; set value_range: 1.' in caplog.text) == told


def test_nothing_of_the_process_changes(compact, photos):
    torch.manual_seed(5)
    before = torch.get_rng_state(), sys.excepthook, torch.get_default_dtype(), torch.get_num_threads()
    quantize(compact, photos, method='minmax', device='cpu')
    after = torch.get_rng_state(), sys.excepthook, torch.get_default_dtype(), torch.get_num_threads()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
