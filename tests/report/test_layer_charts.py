"""Colours of bits, and how long lists of layers are shortened."""

from __future__ import annotations

import numpy as np
import pytest

from dynq_basicsr.report.layer_charts import bit_colours, chart_size, group_starts


def test_colours_are_fixed_and_far_apart():
    colours = bit_colours(np.arange(2, 9))
    assert colours.shape == (7, 3) and colours.min() >= 0 and colours.max() <= 1
    assert colours[0].argmax() == 2 and colours[-1].argmax() == 0
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    assert distances[~np.eye(7, dtype=bool)].min() > 0.25


def test_colours_between_and_beyond():
    assert bit_colours(np.array(3.5)) == pytest.approx(bit_colours(np.array([3, 4])).mean(axis=0))
    assert (bit_colours(np.array([0, 32])) == bit_colours(np.array([2, 8]))).all()
    assert bit_colours(np.zeros((4, 5))).shape == (4, 5, 3)


def test_groups_of_residual_groups():
    names = [f'body.{i}.residual_group.{j}.rcab.{k}' for i in range(10) for j in range(20) for k in (0, 2)]
    assert group_starts(names) == {40 * i: f'body.{i}' for i in range(10)}


def test_groups_are_as_fine_as_there_is_room():
    names = [f'layers.{i}.blocks.{j}.{kind}' for i in range(4) for j in range(6) for kind in ('qkv', 'proj', 'fc')]
    starts = group_starts(names)
    assert len(starts) == 24 and starts[0] == 'layers.0.blocks.0' and starts[69] == 'layers.3.blocks.5'


def test_no_groups_in_flat_names():
    assert group_starts([f'conv{i}' for i in range(50)]) == {}
    assert group_starts([f'body.{i}' for i in range(50)]) == {}


@pytest.mark.parametrize('layers', [41, 333, 400, 1500])
def test_columns_are_whole_pixels(layers):
    width, _ = chart_size(layers, (1000, 500), 1.0)
    assert (width - 22) % layers == 0 and width >= 700


def test_bars_have_room_for_their_names():
    assert chart_size(40, (600, 300), 1.0)[1] >= 40 * 17
