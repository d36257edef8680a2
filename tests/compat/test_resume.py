"""Resuming: the newest whole state, and a sentence where the named one is not."""

import pytest
import torch

from dynq_basicsr import plugin
from dynq_basicsr.compat.resume import load_resume_state
from dynq_basicsr.errors import DynqError

plugin.register()


def save_run(folder, *iterations: int) -> dict:
    states, models = folder / 'training_states', folder / 'models'
    for path in (states, models):
        path.mkdir()
    weight = torch.nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([weight])
    weight.sum().backward()
    adam.step()
    for number in iterations:
        torch.save({'epoch': 1, 'iter': number, 'optimizers': [adam.state_dict()], 'schedulers': []},
                   states / f'{number}.state')
        torch.save({'params': {'w': torch.ones(1)}}, models / f'net_g_{number}.pth')
    return {'auto_resume': True, 'network_g': {}, 'path': {'training_states': str(states), 'models': str(models)}}


def test_newest_by_number(tmp_path):
    opt = save_run(tmp_path, 5, 10, 9)
    (tmp_path / 'training_states' / 'latest.state').write_text('not a number')
    state = load_resume_state(opt)
    assert state['iter'] == 10 and opt['path']['pretrain_network_g'].endswith('net_g_10.pth')
    assert state['optimizers'][0]['state'][0]['exp_avg'].device.type == 'cpu'


@pytest.mark.parametrize('broken', ['training_states/10.state', 'models/net_g_10.pth'])
@pytest.mark.parametrize('size', [0, 50])
def test_cut_off_files_are_passed_over(tmp_path, broken, size):
    opt = save_run(tmp_path, 9, 10)
    with open(tmp_path / broken, 'r+b') as file:
        file.truncate(size)
    with pytest.warns(UserWarning, match=r'passes over .*10\.state'):
        assert load_resume_state(opt)['iter'] == 9


def test_networks_that_are_not_resumed_may_be_missing(tmp_path):
    opt = save_run(tmp_path, 9)
    opt['network_d'] = {}
    opt['path']['ignore_resume_networks'] = ['network_d']
    assert load_resume_state(opt)['iter'] == 9


def test_a_missing_network_of_a_run_of_ours_passes_its_state_over_and_one_of_others_does_not(tmp_path):
    opt = save_run(tmp_path, 9, 10)
    (tmp_path / 'models' / 'net_g_10.pth').unlink()
    assert load_resume_state(opt)['iter'] == 10
    with pytest.warns(UserWarning, match=r'passes over .*10\.state.*net_g_10\.pth is missing'):
        assert load_resume_state(opt | {'model_type': 'QuantizedModel'})['iter'] == 9


def test_nothing_to_resume_starts_anew(tmp_path):
    opt = {'auto_resume': True, 'path': {'training_states': str(tmp_path / 'none'), 'models': str(tmp_path)}}
    assert load_resume_state(opt) is None
    assert load_resume_state({'auto_resume': False, 'path': {'resume_state': None}}) is None


@pytest.mark.parametrize('content', [None, b'', b'text'])
def test_named_state_that_cannot_be_read(tmp_path, content):
    path = tmp_path / 'x.state'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DynqError, match='x.state'):
        load_resume_state({'auto_resume': False, 'path': {'resume_state': str(path)}})


def test_weights_are_no_training_state(tmp_path):
    torch.save({'params': {}}, tmp_path / 'x.state')
    with pytest.raises(DynqError, match='holds no training state'):
        load_resume_state({'auto_resume': False, 'path': {'resume_state': str(tmp_path / 'x.state')}})


@pytest.mark.parametrize('changes, told', [
    ({'iter': 'x'}, 'iter is no whole number'),
    ({'epoch': -1}, 'epoch is no whole number'),
    ({'schedulers': None}, 'lacks the list of schedulers'),
    ({'optimizers': [{'state': {0: {'exp_avg': torch.tensor([1.0, torch.nan])}}}]}, 'NaN or infinity'),
    ({'loop': 3}, 'loop is no list'),
])  # fmt: skip
def test_states_that_no_training_can_go_on_from(tmp_path, changes, told):
    opt = save_run(tmp_path, 9, 10)
    path = tmp_path / 'training_states' / '10.state'
    torch.save(torch.load(path) | changes, path)
    with pytest.warns(UserWarning, match=rf'passes over .*10\.state.*{told}'):
        assert load_resume_state(opt)['iter'] == 9
    with pytest.raises(DynqError, match=rf'10\.state.*{told}'):
        load_resume_state(opt | {'auto_resume': False, 'path': opt['path'] | {'resume_state': str(path)}})


def test_a_state_of_another_name_comes_with_its_networks_and_gets_folders(tmp_path):
    (tmp_path / 'old').mkdir()
    save_run(tmp_path / 'old', 9)
    new = {key: str(tmp_path / 'new' / key) for key in ('models', 'training_states')}
    state = tmp_path / 'old' / 'training_states' / '9.state'
    opt = {'network_g': {}, 'path': {'experiments_root': str(tmp_path / 'new'), 'resume_state': str(state), **new}}
    assert load_resume_state(opt)['iter'] == 9
    assert opt['path']['pretrain_network_g'] == str(tmp_path / 'old' / 'models' / 'net_g_9.pth')
    assert (tmp_path / 'new' / 'models').is_dir() and (tmp_path / 'new' / 'training_states').is_dir()
