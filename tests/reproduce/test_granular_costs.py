"""Table 2 of Granular-DQ: exact sizes and BitOPs of EDSR x4, and mean bits from records."""

import pytest

from dynq_basicsr.reproduce import granular_costs, granular_tables
from dynq_basicsr.reproduce import options as table_options
from dynq_basicsr.reproduce import runner as table_runner

# MACs of an input pixel of EDSR x4: the layers of the blocks, and all the others.
BODY, OTHERS = 32 * 36864, 1728 + 36864 + 147456 + 589824 + 27648
ELEMENTWISE = 64 * (1 + 32 + 16 + 1) + 256 * (1 + 4) + 3 * 16


@pytest.fixture
def costs():
    return granular_costs


@pytest.fixture
def plan(project):
    tables = granular_tables
    return table_options.Plan(project, tables.BACKBONES['srresnet'], tables.SETS, tables.PATCHES)


def test_costs_of_edsr(costs, plan):
    lines = {line['method']: line for line in costs.costs(plan)}
    assert [(line['fab'], line['paper_size_k'], line['paper_bitops_t']) for line in lines.values()] == [
        (32, 1518, 527.0), (8, 631, 101.9), (6.09, 489, 82.6), (5.8, 486, 82.4), (4.97, 486, 73.6),
    ]  # fmt: skip
    assert all(set(line) == set(costs.FIELDS) for line in lines.values())
    assert round(lines['float']['bitops_1080p_t'], 1) == 527.0 and lines['float']['size_k'] == 1517.571
    for method, mean in (('PAMS', 8), ('Granular-DQ', 4.97)):
        operations = 2 * BODY * 8 * mean + (2 * OTHERS + ELEMENTWISE) * 1024
        assert lines[method]['bitops_1080p_t'] == pytest.approx(operations * 480 * 270 / 1e12, rel=1e-9)
        assert lines[method]['weight_bits'] == 8
    assert lines['PAMS']['size_k'] == pytest.approx(632.8 + 2 * 32 / 1e3, abs=0.05)  # a step of inputs and of weights
    assert lines['Granular-DQ']['size_k'] > lines['PAMS']['size_k']
    assert lines['CADyQ']['size_k'] is lines['CABM']['bitops_1080p_t'] is None
    assert all(line['our_fab'] is None for line in lines.values())


def test_mean_bits_of_our_runs(costs, plan, commands):
    tables = granular_tables
    table_runner.TableRunner(plan, commands).run(tables.TABLE1.rows, lambda outcome: None)
    costs.prepare()
    ours = costs.our_costs(plan, tables.GRANULAR)
    assert ours['our_fab'] == 4.1 and ours['our_size_k'] > 600 and ours['our_bitops_1080p_t'] > 100
    assert costs.our_costs(plan, tables.FLOAT)['our_fab'] == 32


def test_without_weights_there_are_no_figures_of_ours(costs, plan, project):
    (project / 'datasets/weights/SRResNet/SRResNet_BN_x4.pth').unlink()
    assert set(costs.our_costs(plan, granular_tables.GRANULAR).values()) == {None}


def test_table(costs, plan):
    line = {'method': 'Granular-DQ', 'weight_bits': 8, 'fab': 4.97, 'size_k': 637.51, 'paper_size_k': 486,
            'bitops_1080p_t': 225.81, 'bitops_urban100_t': None, 'paper_bitops_t': 73.6, 'our_fab': 5.123,
            'our_size_k': 640.0, 'our_bitops_1080p_t': 230.0, 'note': 'a note'}  # fmt: skip
    text = costs.markdown([line], plan)
    cells = [cell.strip() for cell in text.splitlines()[4].split('|')[1:-1]]
    assert cells == ['Granular-DQ', '8', '4.97', '637.5K', '486K', '225.8T', '-', '73.6T', '5.12', '640.0K', '230.0T',
                     'a note']  # fmt: skip
    assert '"ours": SRResNet, with the FAB on Urban100 of the runs' in text
