"""Figures of an iteration: fetched when somebody looks, and what is not finite named."""

import pytest
import torch

from dynq_basicsr.errors import DynqError
from dynq_basicsr.training.figures import TrainingFigures
from tests.models.waits import host_reads


@pytest.fixture
def figures():
    return TrainingFigures('Mend it.')


def note(figures, iteration, **losses):
    losses = {name: torch.tensor(value) for name, value in losses.items()}
    figures.note(iteration, losses, {'bits': torch.tensor([3, 5])})


def test_nothing_is_fetched_until_somebody_asks(figures):
    with host_reads() as found:
        for iteration in (1, 2, 3):
            note(figures, iteration, l_pix=iteration / 2)
    assert found == []
    with host_reads() as found:
        assert figures.read() == {'l_pix': 1.5, 'bits': 4}
    assert found == ['tolist']  # once, for all of them


def test_the_newest_are_told_again_without_another_fetch(figures):
    assert figures.read() == {}
    note(figures, 1, l_pix=0.5)
    first = figures.read()
    with host_reads() as found:
        assert figures.read() == first
    assert found == []
    note(figures, 2, l_pix=0.25)
    assert figures.read() == {'l_pix': 0.25, 'bits': 4} and first['l_pix'] == 0.5


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
def test_the_first_iteration_that_was_not_finite_is_named(figures, value):
    for iteration in range(1, 6):
        note(figures, iteration, l_pix=1.0, l_skt=value if iteration in (3, 4) else 1.0)
    with pytest.raises(DynqError, match=r'^The loss l_skt was not finite in iteration 3; .* stays\. Mend it\.$'):
        figures.read()


def test_of_several_losses_the_first_that_broke_is_named(figures):
    note(figures, 7, l_pix=1.0, l_skt=float('nan'))
    note(figures, 8, l_pix=float('nan'), l_skt=1.0)
    with pytest.raises(DynqError, match=r'The loss l_skt was not finite in iteration 7'):
        figures.read()


def test_other_figures_may_be_anything(figures):
    figures.note(1, {'l_pix': torch.tensor(1.0)}, {'bits': torch.tensor(float('nan'))})
    assert figures.read()['l_pix'] == 1


def test_one_of_several_processes_asks_for_nothing_by_itself(figures, monkeypatch):
    """Rank 0 alone has a progress bar: the others would not answer it."""
    note(figures, 1, l_pix=1.0)
    assert figures.glance() == figures.read() == {'l_pix': 1, 'bits': 4}
    monkeypatch.setattr('dynq_basicsr.training.figures.get_dist_info', lambda: (0, 2))
    note(figures, 2, l_pix=0.5)
    with host_reads() as found:
        assert figures.glance() == {'l_pix': 1, 'bits': 4}
    assert found == []


def test_losses_of_other_names_begin_anew_but_forget_no_error(figures):
    note(figures, 1, l_pix=1.0)
    note(figures, 2, l_pix=1.0, l_bit=2.0)
    assert figures.read() == {'l_pix': 1, 'l_bit': 2, 'bits': 4}
    note(figures, 3, l_pix=1.0, l_bit=float('nan'))
    with pytest.raises(DynqError, match='l_bit was not finite in iteration 3'):
        note(figures, 4, l_pix=1.0)


def test_what_was_noted_does_not_change_and_keeps_no_graph(figures):
    loss = torch.tensor(1.0, requires_grad=True)
    total = loss * 2
    figures.note(1, {'l_pix': total})
    with torch.no_grad():
        total += 5
    assert figures.read() == {'l_pix': 2} and not figures._broken.requires_grad


def test_a_large_iteration_number_is_told_exactly(figures):
    note(figures, 2**24 - 1, l_pix=float('nan'))
    with pytest.raises(DynqError, match=f'iteration {2**24 - 1};'):
        figures.read()
