"""The option file that does the same through BasicSR."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from dynq_basicsr import api
from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.cli import main
from dynq_basicsr.config.run import AdaBMRunOptions, parse
from dynq_basicsr.config.section import Facts
from dynq_basicsr.data.sources import listed_names
from dynq_basicsr.workflow.option_file import option_file, picture_list
from dynq_basicsr.workflow.recipes import METHODS

CPU = torch.device('cpu')
LUMA = {'type': 'SRVGGNetCompact', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 8, 'num_conv': 3, 'upscale': 2}
REPORT = {
    'sections': {
        'quantization': {'activation': {'bits': 4}}, 'policy': {'type': 'AdaBM'},
        'train': {'total_iter': 3, 'calibration_iter': 1},
    },
    'backbone': {'type': 'EDSR'},
    'weights': 'edsr.pth', 'files': ['a.png'], 'channels': 3, 'patch': 48, 'value_range': 1.0, 'output': None,
}  # fmt: skip


@pytest.fixture
def odd(photos, tmp_path):
    """Pictures of many kinds in several places: what a user names, and those that serve."""
    album, apart = tmp_path / 'my album', tmp_path / '写真'
    album.mkdir()
    apart.mkdir()
    bgr = [photo[..., ::-1] for photo in photos]
    cv2.imwrite(str(album / 'grey (1).png'), bgr[0][..., 0])
    cv2.imwrite(str(album / 'deep.png'), bgr[1].astype(np.uint16) * 257 + 3)
    cv2.imwrite(str(album / 'alpha.png'), np.dstack([bgr[2], bgr[2][..., 0]]))
    cv2.imwrite(str(album / 'photo.JPG'), bgr[3])
    cv2.imwrite(str(album / 'large.png'), np.tile(bgr[4], (1, 18, 1)))  # 1152 pixels wide: a window of it is kept
    cv2.imwrite(str(album / 'thumbnail.png'), bgr[5][:20, :30])
    (album / 'broken.png').write_bytes(b'no picture')
    cv2.imwrite(str(apart / 'plain.png'), bgr[6])
    cv2.imwrite(str(apart / 'not named.png'), bgr[6])
    return [album, apart / 'plain.png']


def train(text, folder, monkeypatch):
    """What BasicSR's training makes of an option file, run from another directory."""
    elsewhere = folder / 'elsewhere'
    elsewhere.mkdir()
    (folder / 'options.yml').write_text(text, encoding='utf-8')
    monkeypatch.chdir(elsewhere)
    assert main(['train', '-opt', str(folder / 'options.yml')]) == 0
    name = yaml.safe_load(text)['name']
    return torch.load(elsewhere / f'experiments/{name}/models/net_g_latest.pth', weights_only=True)


@pytest.mark.parametrize(
    ('backbone', 'settings'),
    [(None, {'recipe': 'plus'}), (LUMA, {'value_range': 255, 'method': 'percentile', 'recipe': 'fast'})],
    ids=['colours', 'luma'],
)
def test_it_makes_the_same_network_through_basicsr(backbone, settings, compact, odd, tmp_path, monkeypatch):
    for recipe in METHODS[settings.get('method', 'adabm')].values():
        monkeypatch.setitem(recipe, 'tuning', 4)
    if backbone:
        torch.manual_seed(0)
        torch.save({'params': build_backbone(backbone).state_dict()}, tmp_path / 'luma.pth')
    made = api.quantize(tmp_path / 'luma.pth' if backbone else compact, odd, device='cpu', seed=3, **settings)
    assert len(made.report['files']) == 5 and made.report['held_out'] == 1
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'pictures.txt').write_bytes(picture_list(made.report['files']))
    text = option_file(tmp_path / 'same', 'pictures.txt', made.report, 2, CPU, 3)
    saved = train(text, tmp_path, monkeypatch)
    assert saved['description'] == made.checkpoint()['description']
    state = made.network.state_dict()
    assert saved['params'].keys() == state.keys()
    for name, value in saved['params'].items():
        assert torch.equal(value, state[name]), name


def parsed(text):
    """As a training reads it."""
    return parse(AdaBMRunOptions, yaml.safe_load(text), Facts(is_train=True))


@pytest.mark.parametrize('name', ['名', 'a - b', 'model.d'])
def test_the_name_of_the_folder_is_the_runs(name, tmp_path):
    assert parsed(option_file(tmp_path / name, tmp_path / 'list', REPORT, 2, CPU, 1)).name == name


@pytest.mark.parametrize('name', ['a:b', 'x' * 150, ' a'])
def test_a_name_that_no_run_can_have_is_exchanged(name, tmp_path):
    assert parsed(option_file(tmp_path / name, tmp_path / 'list', REPORT, 2, CPU, 1)).name == 'quantized'


def test_the_current_directory_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parsed(option_file(Path('.'), tmp_path / 'list', REPORT, 2, CPU, 1)).name == tmp_path.name


def test_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = {**REPORT, 'backbone': {'type': 'Spandrel', 'path': 'net.pth'}, 'weights': 'net.pth'}
    text = option_file(tmp_path / 'm', 'm/list', report, 2, CPU, 1, ['archs.py', 'package.module'])
    options = yaml.safe_load(text)
    assert options['network_g']['backbone']['path'] == options['path']['pretrain_network_g'] == f'{tmp_path}/net.pth'
    assert options['datasets']['train']['meta_info_file'] == f'{tmp_path}/m/list'
    assert options['plugins'] == [f'{tmp_path}/archs.py', 'package.module']
    assert f'# Modules of its plugins were looked for in {str(tmp_path)!r}' in text
    assert 'Modules' not in option_file(tmp_path / 'm', 'm/list', report, 2, CPU, 1, ['archs.py'])


def test_the_device_is_the_one_it_was_made_on(tmp_path):
    texts = {name: option_file(tmp_path / 'm', 'list', REPORT, 2, torch.device(name), 1) for name in
             ('cpu', 'cuda', 'cuda:0', 'cuda:1')}  # fmt: skip
    assert [parsed(text).num_gpu for text in texts.values()] == [0, 1, 1, 1]
    assert [name for name, text in texts.items() if 'CUDA_VISIBLE_DEVICES' in text] == ['cuda:1']
    assert 'CUDA_VISIBLE_DEVICES=1.' in texts['cuda:1']


def test_a_list_names_any_file(tmp_path):
    names = ['plain.png', 'photo (1).png', 'photo (1, 2, 3).jpg', '写真.png', os.fsdecode(b'gr\xf6\xdfe.png'), '#1.png']
    (tmp_path / 'list').write_bytes(picture_list([tmp_path / name for name in names]))
    assert listed_names(str(tmp_path / 'list'), 'o') == [str(tmp_path / name) for name in names]
