"""Figures of an iteration: fetched when somebody looks, and what is not finite named."""

import pytest
import torch

from dynq_basicsr.errors import DynqError
from dynq_basicsr.training.figures import Diverged, TrainingFigures
from tests.models.waits import host_reads


@pytest.fixture
def figures():
    return TrainingFigures()


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
    with pytest.raises(DynqError, match=r'^The loss l_skt was not finite in iteration 3\.$'):
        figures.read()


def test_of_several_losses_the_first_that_broke_is_named(figures):
    note(figures, 7, l_pix=1.0, l_skt=float('nan'))
    note(figures, 8, l_pix=float('nan'), l_skt=1.0)
    with pytest.raises(DynqError, match=r'The loss l_skt was not finite in iteration 7'):
        figures.read()


def test_other_figures_may_be_anything(figures):
    figures.note(1, {'l_pix': torch.tensor(1.0)}, {'bits': torch.tensor(float('nan'))})
    assert figures.read()['l_pix'] == 1


def test_what_was_read_last_is_known_without_a_fetch(figures):
    note(figures, 1, l_pix=1.0)
    assert figures.read() == figures.known == {'l_pix': 1, 'bits': 4}
    note(figures, 2, l_pix=0.5)
    with host_reads() as found:
        assert figures.known == {'l_pix': 1, 'bits': 4}
    assert found == []


def limited(start, useless=0.0):
    figures = TrainingFigures()
    figures.limit('l_pix', torch.tensor(start), torch.tensor(useless))
    return figures


def test_a_loss_far_above_its_start_for_long_enough_is_named():
    figures = limited(0.5)
    with host_reads() as found:
        for iteration in range(1, 31):
            note(figures, iteration, l_pix=60.0 if iteration > 12 else 1.0, l_skt=1e9)
    assert found == []
    words = r'^The loss l_pix was far above its start, more than 50, for the 10th time in a row in iteration 22\.$'
    with pytest.raises(Diverged, match=words):
        figures.read()


def test_peaks_and_high_losses_below_the_limit_are_no_matter():
    figures = limited(0.5)
    for iteration in range(1, 60):
        note(figures, iteration, l_pix=60.0 if iteration % 10 else 49.0)
    assert figures.read() and figures.dubious
    note(figures, 60, l_pix=49.0)
    note(figures, 61, l_pix=51.0)
    assert figures.read()['l_pix'] == 51 and figures.dubious


def test_a_limit_is_no_lower_than_what_a_useless_network_reaches():
    figures = limited(0.001, useless=0.4)  # a first batch that is nearly flat
    for iteration in range(1, 30):
        note(figures, iteration, l_pix=0.3)
    assert figures.read()['l_pix'] == pytest.approx(0.3)


def test_the_first_limit_counts_also_in_a_resumed_run():
    figures = limited(0.5)
    figures.limit('l_pix', torch.tensor(7.0), torch.tensor(0.0))
    again = TrainingFigures()
    again.resume(figures.limits())
    assert again.has_limit('l_pix') and again.limits() == {'l_pix': 50}
    again.limit('l_pix', torch.tensor(9.0), torch.tensor(0.0))
    for iteration in range(101, 112):
        note(again, iteration, l_pix=60.0)
    with pytest.raises(Diverged, match=r'in iteration 110\.'):
        again.read()


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
    with pytest.raises(DynqError, match=rf'iteration {2**24 - 1}\.'):
        figures.read()
