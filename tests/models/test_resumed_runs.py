"""BasicSR's training with QuantizedModel: an interrupted run ends as one that was not interrupted, bit for bit."""

import csv
import json

import pytest
import torch

from dynq_basicsr.compat import interrupted_epoch
from dynq_basicsr.errors import DynqError
from tests.models.runs import assert_equal, content


def test_a_training_leaves_the_curve_of_its_validations_also_when_interrupted(run):
    def curve():
        with open(experiment / 'curve.csv', newline='') as file:
            return list(csv.DictReader(file))

    experiment = run(6, 0)
    assert [(row['iteration'], row['dataset']) for row in curve()] == [(n, 'photographs') for n in '246']
    first = curve()
    run(8, 0, '--auto_resume')
    assert [row['iteration'] for row in curve()] == ['2', '4', '6', '8'] and curve()[:2] == first[:2]
    seconds = [float(row['seconds']) for row in curve()]
    assert 0 < seconds[0] and seconds == sorted(seconds)
    best = content(experiment, 8)['training_states/8.state']['best_metric_results']['photographs']['psnr']
    assert max(float(row['psnr']) for row in curve()) == pytest.approx(best['val'])


@pytest.mark.parametrize('workers', [0, 1])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(run, workers):
    last = 10
    experiment = run(last, workers)
    expected = content(experiment, last)
    assert set(expected[f'models/net_g_{last}.pth']) == {'params', 'params_ema'}
    state = expected[f'training_states/{last}.state']
    assert state['epoch'] == 2 and state['loop'][0]['delivered'] == 2
    assert state['best_metric_results']['photographs']['psnr']['iter'] == 10  # found after the state was saved first
    # within the first epoch; at an epoch's very end; then from a state that a resumed run saved, an epoch later
    for interrupted_at in (3, 4, 6):
        for path in (experiment / 'training_states').iterdir():
            if int(path.stem) > interrupted_at:
                path.unlink()
        run(last, workers, '--auto_resume')
        assert_equal(content(experiment, last), expected)
    assert [path.name for path in experiment.parent.glob('[!.]*')] == ['tiny']


def test_a_state_of_another_name_is_resumed_in_folders_of_its_own(run, tmp_path):
    old = run(2, 0).rename(tmp_path / 'experiments' / 'old')
    state = old / 'training_states' / '2.state'
    new = run(3, 0, '--force_yml', f'path:resume_state={state}')
    assert content(new, 3)['training_states/3.state']['iter'] == 3
    saved = torch.load(state, weights_only=True)
    torch.save(saved | {'optimizers': saved['optimizers'] * 2}, state)
    with pytest.raises(DynqError, match=r'2\.state is of other optimizers or schedulers'):
        run(3, 0, '--force_yml', f'path:resume_state={state}')


def test_plain_values_only(tmp_path):
    """What a state holds of the loop is read back by torch.load(weights_only=True) and has its effect."""
    states = interrupted_epoch.random_states()
    torch.save(states, tmp_path / 'x')
    drawn = torch.rand(2)
    interrupted_epoch.restore(torch.load(tmp_path / 'x', weights_only=True))
    assert torch.equal(torch.rand(2), drawn)
    json.dumps({key: value for key, value in states.items() if not isinstance(value, torch.Tensor)})


def test_another_number_of_processes_starts_the_epoch_again():
    with pytest.warns(UserWarning, match='saved by 2 processes and is resumed by 1'):
        interrupted_epoch.go_on_from([{}, {}])
    assert interrupted_epoch._Loop.resumed is None
