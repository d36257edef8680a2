"""scripts/pack_weights.py, and the file that it made: size, description, and what it reaches on Set5."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / 'dynq_basicsr' / 'weights' / 'edsr_small_x4.safetensors'


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """What BasicSR leaves behind: an option file with a tagged float, and a checkpoint."""
    folder = tmp_path / 'experiment'
    (folder / 'models').mkdir(parents=True)
    (folder / 'x.yml').write_text('train: {lr: !!float 1e-3}\nnetwork_g: {type: EDSR, num_feat: 2}\n')
    state = {'b': torch.arange(3, dtype=torch.float64), 'a': torch.ones(2, 2).t()}
    torch.save({'params': state}, folder / 'models' / 'net_g_latest.pth')
    return folder


def test_round_trip(load_script, experiment: Path, tmp_path: Path) -> None:
    out = tmp_path / 'packed.safetensors'
    assert load_script('pack_weights').pack(experiment, out=out) == out.stat().st_size
    with safe_open(out, 'pt') as packed:
        assert json.loads(packed.metadata()['network_g']) == {'type': 'EDSR', 'num_feat': 2}
    state = load_file(out)
    assert sorted(state) == ['a', 'b'] and all(value.dtype == torch.float32 for value in state.values())
    assert state['b'].tolist() == [0, 1, 2]


def test_moving_averages_come_first(load_script, experiment: Path, tmp_path: Path) -> None:
    content = {'params': {'a': torch.zeros(1)}, 'params_ema': {'a': torch.ones(1)}}
    torch.save(content, experiment / 'models' / 'ema.pth')
    load_script('pack_weights').pack(experiment, 'ema.pth', tmp_path / 'packed.safetensors')
    assert load_file(tmp_path / 'packed.safetensors')['a'].item() == 1


@pytest.mark.parametrize('case', ['folder', 'options', 'section', 'tag', 'checkpoint', 'cut', 'text', 'nan'])
def test_bad_input_is_one_line_and_keeps_the_old_file(load_script, experiment, tmp_path, capsys, case) -> None:
    out, checkpoint, named = tmp_path / 'packed.safetensors', experiment / 'models' / 'net_g_latest.pth', 'net_g_latest'
    out.write_bytes(b'old')
    if case == 'folder':
        experiment, named = tmp_path / 'nowhere', 'nowhere'
    elif case == 'options':
        (experiment / 'x.yml').unlink()
        named = 'option files'
    elif case == 'section':
        (experiment / 'x.yml').write_text('name: x')
        named = 'network_g.type'
    elif case == 'tag':
        (experiment / 'x.yml').write_text('network_g: !!python/object/apply:os.getcwd []')
        named = 'plain YAML'
    elif case == 'checkpoint':
        checkpoint.unlink()
    elif case == 'cut':
        checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    elif case == 'text':
        torch.save({'params': {'a': 'no tensor'}}, checkpoint)
    elif case == 'nan':
        torch.save({'params': {'weight_x': torch.tensor([float('nan')])}}, checkpoint)
        named = 'weight_x'
    code = load_script('pack_weights').main([str(experiment), '--out', str(out)])
    message = capsys.readouterr().err
    assert code == 2 and named in message and len(message.splitlines()) == 1
    assert out.read_bytes() == b'old' and not list(tmp_path.glob('.*'))


def plain_edsr(state: dict[str, torch.Tensor], image: torch.Tensor, options: dict) -> torch.Tensor:
    """EDSR x4 from its definition: (1, 3, H, W) in [0, 1] to (1, 3, 4H, 4W)."""

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, state[f'{name}.weight'], state[f'{name}.bias'], padding=1)

    mean = torch.tensor(options['rgb_mean']).view(1, 3, 1, 1)
    head = x = conv((image - mean) * options['img_range'], 'conv_first')
    for block in range(options['num_block']):
        x = x + options['res_scale'] * conv(conv(x, f'body.{block}.conv1').relu(), f'body.{block}.conv2')
    x = conv(x, 'conv_after_body') + head
    for index in (0, 2):
        x = F.pixel_shuffle(conv(x, f'upsample.{index}'), 2)
    return conv(x, 'conv_last') / options['img_range'] + mean


def luma(image: np.ndarray) -> np.ndarray:
    """Y of ITU-R BT.601 in 16..235, from (H, W, 3) BGR in 0..255."""
    return image.astype(np.float64) @ (np.array([24.966, 128.553, 65.481]) / 255) + 16


def test_embedded_file_is_small_and_describes_itself() -> None:
    assert EMBEDDED.stat().st_size <= 1_000_000
    with safe_open(EMBEDDED, 'pt') as packed:
        options = json.loads(packed.metadata()['network_g'])
    trained_by = yaml.safe_load((ROOT / 'options' / 'train_edsr_small_x4.yml').read_text(encoding='utf-8'))
    assert options == trained_by['network_g']
    state = load_file(EMBEDDED)
    assert len(state) == 2 * (2 * options['num_block'] + 5)
    assert state['conv_first.weight'].shape == (options['num_feat'], 3, 3, 3)
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in state.values())


def test_embedded_network_beats_bicubic_on_set5(benchmarks: Path) -> None:
    with safe_open(EMBEDDED, 'pt') as packed:
        options = json.loads(packed.metadata()['network_g'])
    state, values = load_file(EMBEDDED), []
    for path in sorted((benchmarks / 'Set5' / 'HR').iterdir()):
        lr = cv2.imread(str(benchmarks / 'Set5' / 'LR_bicubic' / 'X4' / f'{path.stem}x4.png'))
        rgb = torch.from_numpy(lr[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            output = plain_edsr(state, rgb, options)[0].permute(1, 2, 0).numpy()[..., ::-1]
        output = (output.clip(0, 1) * 255).round()
        error = (luma(output) - luma(cv2.imread(str(path))))[4:-4, 4:-4]
        values.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert len(values) == 5
    # Bicubic reaches 28.43; weights/README.md states 30.87.
    assert np.mean(values) >= 30.8
