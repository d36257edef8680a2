"""The command of Granular-DQ's tables: what it writes, and how it ends."""

from functools import partial

import pytest


@pytest.fixture
def granular(reproduce, project):
    """The command in a project of its own, with training data and with commands that only leave files."""
    for name in ('HR', 'LR'):
        (project / f'datasets/BSDS500_tiles_x4/{name}.lmdb').mkdir(parents=True)
    folder = project / 'datasets/benchmarks/Urban100/HR'
    folder.mkdir(parents=True)
    (folder / 'a.png').write_bytes(b'')
    return partial(reproduce, 'granular')


def test_a_table_is_run_and_written(granular, project, commands, capsys):
    assert granular('--table', '1', '--sets', 'Urban100') == 0
    text = (project / 'results/tables/granular_table1.md').read_text()
    assert 'Ours: SRResNet; the paper: SRResNet.' in text and 'RefQSR' in text and 'Trained for' not in text
    assert 'in patches of 96 every 90 pixels, the float network, too' in text and text in capsys.readouterr().out
    assert (project / 'results/tables/granular_table1.csv').is_file()
    assert [name for kind, name in commands.taken() if kind == 'train'] == [
        'table_srresnet_pams_w8a8', 'table_srresnet_granular',
    ]  # fmt: skip
    assert granular('--table', '3', '--sets', 'Urban100') == 0
    assert [name for kind, name in commands.taken() if kind == 'train'] == [
        'table_srresnet_granular_fixed', 'table_srresnet_granular_gbc', 'table_srresnet_granular_gbc_e2b',
    ]  # fmt: skip


def test_another_length_is_another_network(granular, project, commands):
    assert granular('--table', '1', '--sets', 'Set5', '--iterations', '6000') == 0
    train = commands.options['table_srresnet_granular_6000']['train']
    assert (train['total_iter'], train['scheduler']['milestones']) == (6000, [5000])
    text = (project / 'results/tables/granular_table1_6000.md').read_text()
    assert '- Trained for 6000 iterations: PAMS, Granular-DQ.' in text


def test_quick_takes_less(granular, project, commands):
    assert granular('--table', '1', '--quick') == 0
    options = commands.options['table_srresnet_granular_quick_200']
    assert (options['train']['total_iter'], options['train']['scheduler']['milestones']) == (200, [166])
    assert options['datasets']['train']['gt_size'] == 96
    assert 'table_srresnet_float_patches96step90_Urban100_20' in commands.options
    text = (project / 'results/tables/granular_table1_quick.md').read_text()
    assert '- Quick, with few iterations on small patches: PAMS, Granular-DQ.' in text
    assert granular('--table', '2', '--quick') == 0
    costs = (project / 'results/tables/granular_table2_quick.md').read_text()
    assert '4.10' in costs and 'its first 20 images of the runs' in costs


def test_without_float_weights_the_other_rows_are_trained_from_scratch(granular, project, commands, capsys):
    assert granular('--table', '1', '--backbone', 'edsr', '--sets', 'Set5') == 2
    assert commands.options['table_edsr_granular']['path']['pretrain_network_g'] is None
    text = (project / 'results/tables/granular_table1_edsr.md').read_text()
    assert '- No float weights: trained from scratch.' in text
    assert '- float 32/32 failed: EDSR has no float weights; name them in path.pretrain_network_g of options/' in text
    assert '1 rows failed' in capsys.readouterr().err and 'RefQSR |' not in text


def test_missing_training_data_say_how_to_make_them(granular, project, commands, capsys):
    (project / 'datasets/BSDS500_tiles_x4/HR.lmdb').rmdir()
    assert granular('--table', '1', '--sets', 'Set5') == 2
    assert 'datasets/BSDS500_tiles_x4/HR.lmdb: no such training data; put or link' in capsys.readouterr().err
    assert all(kind == 'test' for kind, _ in commands.taken())
    text = (project / 'results/tables/granular_table1.md').read_text()
    assert 'dynq data bicubic --hr' in text and '26.00' in text


def test_costs_run_nothing(granular, project, commands):
    assert granular('--table', '2') == 0 and not commands.calls
    assert (project / 'results/tables/granular_table2.csv').read_text().startswith('method,weight_bits')
    assert granular('--table', '2', '--sets', 'Set5') == 0 and not commands.calls


@pytest.mark.parametrize('length', ['0', '-5'])
def test_a_length_that_cannot_be_is_refused(granular, capsys, length):
    with pytest.raises(SystemExit):
        granular('--table', '1', '--iterations', length)
    assert f'must be at least 1, not {length}' in capsys.readouterr().err


def test_interruption_ends_in_a_sentence(granular, commands, capsys):
    commands.trouble = {'table_srresnet_granular': KeyboardInterrupt()}
    assert granular('--table', '1', '--sets', 'Set5') == 130
    assert capsys.readouterr().err.startswith('dynq_basicsr: interrupted; what is done is kept')
