"""A bar in a terminal or a notebook, lines elsewhere where they are asked for."""

import io
import sys

from dynq_basicsr.training import progress
from dynq_basicsr.training.progress import TrainingBar


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self):
        """Return True."""
        return True


def test_a_terminal_sees_stage_figures_and_time_left(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    bar = TrainingBar(3, done=1)
    bar.update('weight', lambda: {'l_pix': 1.23456, 'bits': 4.0})
    bar._bar.refresh()
    bar.update('mapping', lambda: {'l_pix': 0.5})
    shown = terminal.getvalue()
    assert 'weight' in shown and 'l_pix=1.23' in shown and '2/3' in shown
    assert bar._bar is None  # the last iteration closes it
    bar.update('mapping', dict)
    bar.close()


def test_elsewhere_nothing_is_printed(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', stream)
    bar = TrainingBar(3)
    asked = []
    bar.update('weight', lambda: asked.append(1) or {'l_pix': 1.0})
    bar.close()
    assert stream.getvalue() == '' and asked == []  # a GPU is not waited for, for nobody


def test_figures_are_fetched_now_and_then(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', Terminal())
    asked = []
    bar = TrainingBar(10, done=1, every=3)
    for iteration in range(2, 11):
        bar.update('weight', lambda iteration=iteration: asked.append(iteration) or {'l_pix': 1.0})
    assert asked == [3, 6, 9]


def test_lines_where_no_bar_can_be_shown(monkeypatch):
    stream, clock = io.StringIO(), iter(range(0, 1000, 10))
    monkeypatch.setattr(sys, 'stderr', stream)
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(clock))
    bar = TrainingBar(12, done=2, lines=True)
    for _ in range(6):
        bar.update('joint', dict)
    bar.close()
    lines = stream.getvalue().splitlines()
    assert lines and all(line.startswith('joint: ') and line.endswith(' s left') for line in lines)
    assert lines[0].startswith('joint: 4 of 12 iterations, about ')


def test_a_notebook_gets_a_widget(monkeypatch):
    made = []

    class Widget:
        def __init__(self, **options):
            made.append(options)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            made.append('closed')

        def set_description(self, stage, refresh):
            made.append(stage)

        def update(self):
            pass

    monkeypatch.setattr(progress, 'in_notebook', lambda: True)
    monkeypatch.setattr(progress, 'find_spec', lambda name: name)
    monkeypatch.setitem(sys.modules, 'tqdm.notebook', type(sys)('tqdm.notebook'))
    sys.modules['tqdm.notebook'].tqdm = Widget
    bar = TrainingBar(1, every=2)
    bar.update('joint', dict)
    assert made == [{'total': 1, 'initial': 0, 'unit': 'it'}, 'joint', 'closed']


def test_a_notebook_without_widgets_gets_a_bar_of_text(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', stream)
    monkeypatch.setattr(progress, 'in_notebook', lambda: True)
    monkeypatch.setattr(progress, 'find_spec', lambda name: None)
    bar = TrainingBar(500)
    for _ in range(300):
        bar.update('joint', dict)
    bar.close()
    states = stream.getvalue().split('\r')
    assert 'joint' in states[-1] and len(states) < 10  # the file of the notebook keeps every one


def test_this_process_is_no_notebook():
    assert not progress.in_notebook()
