"""The worked example of docs/extending.md: two files of the reader's own, and nothing else changed."""

import importlib.util
import re
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.checkpoint import checkpoint

import dynq_basicsr
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.base import POLICIES, BitBudget
from dynq_basicsr.quantization.quantizers import QUANTIZERS
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.training.calibration import Calibration
from dynq_basicsr.training.saving import save_atomically

PAGE = (Path(dynq_basicsr.__file__).parent / 'docs' / 'extending.md').read_text(encoding='utf-8')
FILES = {name: text for name, text in re.findall(r'```python\n# (\w+)\.py\n(.*?)```', PAGE, re.DOTALL)}
SECTIONS = yaml.safe_load(re.search(r'```yaml\n(.*?)```', PAGE, re.DOTALL)[1])['network_g']
BACKBONE = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2}


def bring(name, folder):
    file = folder / f'{name}.py'
    file.write_text(FILES[name])
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def registered(tmp_path, monkeypatch):
    """Both, for one test."""
    for registry in (POLICIES, QUANTIZERS):
        monkeypatch.setattr(registry, '_classes', dict(registry._classes))
    for name in FILES:
        bring(name, tmp_path)


def build(**policy):
    torch.manual_seed(0)
    return QuantizedSR(BACKBONE, SECTIONS['quantization'], policy or SECTIONS['policy'])


def calibrated(**policy):
    net = build(**policy).eval()
    calibration = Calibration(net)
    for seed in range(3):
        calibration.observe(images(seed))
    calibration.finish()
    return net


def images(seed):
    """Flat and busy ones."""
    noise = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return 0.5 + (noise - 0.5) * torch.tensor([0.02, 0.2, 0.6, 1.0]).view(-1, 1, 1, 1)


def test_each_is_one_short_file():
    assert set(FILES) == {'input_deviation', 'power_of_two'}
    assert all(len(text.splitlines()) <= 60 for text in FILES.values())


def test_bits_follow_the_input_of_each_layer():
    bits = calibrated()(images(7), details=True).bits
    assert bits.shape == (4, 4) and set(bits.unique().tolist()) <= {3.0, 4.0, 5.0}
    assert (bits[0].diff() >= 0).all() and bits[0].unique().numel() > 1  # busier patches get more
    assert not torch.equal(bits[0], bits[-1])  # and layers decide for themselves


def test_it_trains_all_that_it_has():
    net = calibrated()
    budget = BitBudget(3.5, 0.0, torch.tensor(float('nan')))
    output, bits, _ = net(images(7), mode=Mode.TRAINING, details=True)
    loss = (output - net.backbone(images(7)).detach()).abs().mean() + sum(net.policy.losses(bits, budget).values())
    loss.backward()
    for name, parameter in net.named_parameters():
        if 'exponent' in name or 'log_usual' in name:
            assert parameter.grad.abs().sum() > 0, name
    before = loss.item()
    optimizer = torch.optim.Adam([{'params': [p for n, p in net.named_parameters() if 'range' in n], 'lr': 0.02}])
    for _ in range(30):
        optimizer.zero_grad()
        output = net(images(7), mode=Mode.TRAINING)
        (output - net.backbone(images(7)).detach()).abs().mean().backward()
        optimizer.step()
    after = (net(images(7), mode=Mode.TRAINING) - net.backbone(images(7))).abs().mean()
    assert after < before


def test_it_is_saved_and_loaded(tmp_path):
    net = calibrated()
    save_atomically({'params': net.state_dict(), 'description': net.description}, tmp_path / 'net.pth')
    other = build()
    load_weights(other, tmp_path / 'net.pth')
    assert torch.equal(other.eval()(images(9)), net(images(9)))
    with pytest.raises(DynqError, match=r'policy\.ratio'):
        load_weights(build(type='InputDeviation', ratio=2.0), tmp_path / 'net.pth')


def test_samples_are_independent():
    net, batch = calibrated(), images(5)
    whole, alone = net(batch, details=True), [net(one[None], details=True) for one in batch]
    assert torch.equal(whole.bits, torch.cat([one.bits for one in alone], dim=1))
    torch.testing.assert_close(whole.output, torch.cat([one.output for one in alone]))  # the tail sums in float32


def test_it_lives_with_activation_checkpointing():
    """Blocks run once more in the backward pass, and their layers decide once more, the same."""
    found = []
    for checkpointed in (False, True):
        net = calibrated().train()
        for block in net.backbone.body if checkpointed else ():
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        net(images(5)).square().mean().backward()
        found.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    plain, recomputed = found
    assert plain.keys() == recomputed.keys() and any('log_usual' in name for name in plain)
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


def test_scales_are_powers_of_two():
    net = calibrated(type='Fixed')
    for layer in net.quant_layers():
        mantissa, _ = torch.frexp(layer.activation_range.grid(torch.tensor([4.0]))[0])
        assert mantissa.item() == 0.5


def test_export_takes_the_quantizer_and_refuses_the_policy_with_the_reason(tmp_path):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from dynq_basicsr.export.check import agreement
    from dynq_basicsr.export.freeze import freeze
    from dynq_basicsr.imaging.patch_grid import TilingOptions
    from dynq_basicsr.runtime.manifest import Manifest
    from dynq_basicsr.runtime.sessions import open_sessions

    with pytest.raises(DynqError, match='InputDeviationPolicy does not tell which bit assignments'):
        freeze(calibrated(), tmp_path / 'by_layer', TilingOptions())
    assert not (tmp_path / 'by_layer').exists()
    net = calibrated(type='Fixed')
    freeze(net, tmp_path / 'fixed', TilingOptions())
    manifest = Manifest.load(tmp_path / 'fixed')
    session = open_sessions(manifest.network.read(), 'fixed', {'a4': manifest.assignments['a4'].grids})['a4']
    assert agreement(session(images(3).numpy()), net(images(3)).numpy()).equal == 1  # the tail sums in float32


@pytest.mark.parametrize('section, options, named', [
    ('policy', {'type': 'InputDeviatoin'}, "no policy 'InputDeviatoin'.*'InputDeviation'"),
    ('policy', {'type': 'InputDeviation', 'ratio': 0.5}, r'network_g\.policy\.ratio'),
    ('policy', {'type': 'InputDeviation', 'rato': 1.5}, "unknown option 'rato'.*'ratio'"),
])  # fmt: skip
def test_its_options_are_checked_like_ours(section, options, named):
    with pytest.raises(DynqError, match=named):
        build(**options)


def test_a_taken_name_is_refused(tmp_path):
    text = FILES['power_of_two'].replace("'power_of_two'", "'range'")
    (tmp_path / 'thief.py').write_text(text)
    spec = importlib.util.spec_from_file_location('thief', tmp_path / 'thief.py')
    with pytest.raises(DynqError, match="quantizer 'range' is registered twice"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
