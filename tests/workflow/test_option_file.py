"""The option file that does the same through BasicSR."""

import json

import cv2
import pytest
import torch
import yaml

from dynq_basicsr.workflow.make import make
from dynq_basicsr.workflow.option_file import option_file
from dynq_basicsr.workflow.recipes import METHODS


def test_it_trains_through_basicsr_and_makes_the_same_kind_of_network(compact, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS['adabm']['fast'], 'tuning', 2)
    for index, photo in enumerate(photos):
        cv2.imwrite(str(tmp_path / f'{index}.png'), photo[..., ::-1])
    report = make(compact, tmp_path, device='cpu').report
    text = option_file(
        'same', report['backbone'], compact, report['sections'], tmp_path, report['images'], report['patch'], 2, 1
    )
    (tmp_path / 'same.yml').write_text(text)
    assert yaml.safe_load(text)['datasets']['train']['num_images'] == 6
    monkeypatch.chdir(tmp_path)
    from dynq_basicsr.cli import main

    assert main(['train', '-opt', 'same.yml', '--force_yml', 'num_gpu=0']) == 0
    saved = torch.load(tmp_path / 'experiments/same/models/net_g_latest.pth', weights_only=True)
    again = make(compact, tmp_path / '0.png', device='cpu')
    assert json.dumps(saved['description']) == json.dumps(again.network.description)
    assert saved['params'].keys() == again.network.state_dict().keys()


@pytest.mark.parametrize('name', ['名', 'a: b'])
def test_any_name_survives(name, compact):
    sections = {'quantization': {}, 'policy': {}, 'train': {}}
    text = option_file(name, {'type': 'EDSR'}, compact, sections, compact.parent, 1, 48, 2, 1)
    assert yaml.safe_load(text)['name'] == name
