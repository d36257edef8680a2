"""A bar in a terminal, nothing elsewhere."""

import io
import sys

from dynq_basicsr.models.progress import TrainingBar


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self):
        """Return True."""
        return True


def test_a_terminal_sees_stage_figures_and_time_left(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    bar = TrainingBar(3, done=1)
    bar.update('weight', {'l_pix': 1.23456, 'bits': 4.0})
    bar._bar.refresh()
    bar.update('mapping', {'l_pix': 0.5})
    shown = terminal.getvalue()
    assert 'weight' in shown and 'l_pix=1.23' in shown and '2/3' in shown
    assert bar._bar is None  # the last iteration closes it
    bar.update('mapping', {})
    bar.close()


def test_elsewhere_nothing_is_printed(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', stream)
    bar = TrainingBar(3)
    bar.update('weight', {'l_pix': 1.0})
    bar.close()
    assert stream.getvalue() == ''
