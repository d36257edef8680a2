"""Charts of the HTML report: well-formed, with what they are of in words, colours of the bits."""

from xml.etree import ElementTree

import numpy as np
import pytest

from dynq_basicsr.report.html_charts import WIDTH, bit_overlay, layer_chart, scatter
from dynq_basicsr.report.layer_charts import bit_colours


def parts(svg, kind):
    return list(ElementTree.fromstring(svg).iter(kind))


def colour(bits):
    return '#' + ''.join(f'{round(255 * part):02x}' for part in bit_colours(np.array(bits)))


def test_overlay_covers_the_image_once(make_usage):
    boxes = [(0, 0, 20, 24), (0, 16, 20, 40)]  # which overlap
    svg = bit_overlay(make_usage(20, 40, boxes, {'a': [4, 8], 'b': [4, 6]}), 'a <b> & "c"')
    rects = parts(svg, 'rect')
    assert [(int(one.get('x')), int(one.get('width')), int(one.get('height'))) for one in rects] == [
        (0, 20, 20), (20, 20, 20)]  # fmt: skip
    assert [one.get('fill') for one in rects] == [colour(4), colour(7)]
    assert [one.text for one in parts(svg, 'text')] == ['4.00', '7.00']
    root = ElementTree.fromstring(svg)
    assert root.get('role') == 'img' and root.get('viewBox') == '0 0 40 20'
    assert root.get('aria-label') == 'Bits of 2 patches of a <b> & "c", 4.00 to 7.00'


def test_layer_chart_has_a_column_for_each_layer():
    svg = layer_chart({f'body.{index}.conv': (2.0 + index, 2, 2 + index) for index in range(5)})
    rects = parts(svg, 'rect')
    heights = [float(one.get('height')) for one in rects]
    assert np.allclose(np.array(heights) / heights[0], np.arange(2, 7) / 2, atol=0.01)
    assert [one.get('fill') for one in rects] == [colour(2 + index) for index in range(5)]
    assert rects[1][0].text == 'body.1.conv: 3.00 bits, patches 2 to 3'
    assert sum(one.get('class') == 'span' for one in parts(svg, 'line')) == 4  # the first has one number of bits


@pytest.mark.parametrize('count', [1, 2, 24, 25, 400])
def test_any_number_of_layers_has_names_that_do_not_collide(count):
    svg = layer_chart({f'a_rather_long_name_{index}': (4.0, 4, 4) for index in range(count)})
    assert len(parts(svg, 'rect')) == count
    names = [one for one in parts(svg, 'text') if 'name' in one.text]
    assert names[0].text == 'a_rather_long_name_0'
    assert len(names) == count if count <= 24 else len(names) == 2
    assert all('rotate(-40)' in (one.get('transform') or '') for one in names) == (count > 5)


def test_scatter_has_a_dot_for_each_patch_within_its_axes():
    svg = scatter([3.0, 4.5, 4.0], [0.0, 12.0, 3.0], ['a', 'b', 'c'])
    dots = parts(svg, 'circle')
    across, down = (np.array([float(one.get(key)) for one in dots]) for key in ('cx', 'cy'))
    assert (np.argsort(across) == [0, 2, 1]).all() and (np.argsort(-down) == [0, 2, 1]).all()
    assert 0 < across.min() and across.max() < WIDTH
    assert dots[1][0].text == 'b: 4.50 bits, error 12.00'


def test_scatter_of_one_patch_without_error():
    svg = scatter([4.0], [0.0], ['a'])
    assert len(parts(svg, 'circle')) == 1 and 'nan' not in svg and 'inf' not in svg
