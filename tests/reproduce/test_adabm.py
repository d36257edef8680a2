"""The command: what it writes, and how it ends."""

from functools import partial

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.reproduce import adabm_costs


@pytest.fixture
def adabm(reproduce):
    return partial(reproduce, 'adabm')


def test_a_table_is_run_and_written(adabm, project, commands, capsys):
    assert adabm('--table', '2', '--sets', 'Urban100') == 0
    text = (project / 'results/tables/adabm_table2.md').read_text()
    assert 'Ours: SRResNet; the paper: SRResNet.' in text and 'The networks differ' not in text
    assert '25.50 |      -0.50' in text and '+0.18' in text  # 25.50 - 25.32
    assert 'SRResNet_BN_x4.pth' in text and 'in patches of 96, the float network, too' in text
    assert text in capsys.readouterr().out
    assert (project / 'results/tables/adabm_table2.csv').is_file()
    assert sum(kind == 'train' for kind, _ in commands.taken()) == 2


def test_quick_takes_less(adabm, project, commands):
    folder = project / 'datasets/benchmarks/Urban100/HR'
    folder.mkdir(parents=True)
    (folder / 'a.png').write_bytes(b'')
    assert adabm('--table', '2', '--quick') == 0
    train = commands.options['table_srresnet_adabm_w4a4_quick']['train']
    assert (train['total_iter'], train['stage_iter']) == (200, 15)
    names = [name for kind, name in commands.taken() if kind == 'test' and 'float' in name]
    assert names == ['table_srresnet_float_patches96_Set5', 'table_srresnet_float_patches96_Urban100_20']
    text = (project / 'results/tables/adabm_table2_quick.md').read_text()
    assert '- Quick, with a shorter fine-tuning: AdaBM.' in text and 'Urban100: its first 20 images' in text


def test_a_failure_is_told_at_the_end(adabm, project, commands, capsys):
    commands.trouble = {'table_srresnet_adabm_w8a6': DynqError('x.yml failed: no memory.')}
    assert adabm('--table', '2', '--sets', 'Set5') == 2
    assert '1 rows failed, see below the table; the first: x.yml failed: no memory.' in capsys.readouterr().err
    text = (project / 'results/tables/adabm_table2.md').read_text()
    assert '- AdaBM 8/6MP failed: x.yml failed: no memory.' in text


def test_missing_weights_end_in_one_line(adabm, project, commands, capsys):
    assert adabm('--table', '3', '--backbone', 'edsr') == 2
    error = capsys.readouterr().err
    assert error.startswith('dynq_basicsr: error: --backbone edsr: no weights at') and len(error.splitlines()) == 1
    assert not commands.calls and not (project / 'results').exists()


def test_interruption_ends_in_a_sentence(adabm, project, commands, capsys):
    commands.trouble = {'table_srresnet_adabm_w4a4': KeyboardInterrupt()}
    assert adabm('--table', '2', '--sets', 'Set5') == 130
    assert capsys.readouterr().err == (
        'dynq_basicsr: interrupted; what is done is kept, the same command goes on from it.\n'
    )
    assert '25.50' in (project / 'results/tables/adabm_table2.md').read_text()  # W8A6 was done


def test_table_5_runs_nothing(adabm, project, commands, monkeypatch, capsys):
    line = dict.fromkeys(adabm_costs.FIELDS) | {
        'method': 'float', 'weight_bits': 32, 'activation_bits': 32, 'note': '', 'paper_time': ''}  # fmt: skip
    monkeypatch.setattr(adabm_costs, 'costs', lambda root, backbone: [line])
    assert adabm('--table', '5') == 0
    assert adabm('--table', '5', '--quick', '--sets', 'Set5', 'Set5') == 0
    assert '--table 5 computes costs, so --sets changes nothing.' in capsys.readouterr().out
    assert not commands.calls
    assert (project / 'results/tables/adabm_table5.csv').read_text().startswith('method,fully_quantized')


def test_unknown_table_is_refused(adabm, capsys):
    with pytest.raises(SystemExit) as ending:
        adabm('--table', '1')
    assert ending.value.code == 2 and 'choose from' in capsys.readouterr().err


def test_the_length_of_its_trainings_is_that_of_the_files(adabm, capsys):
    with pytest.raises(SystemExit):
        adabm('--table', '2', '--iterations', '10')
    assert 'unrecognized arguments: --iterations' in capsys.readouterr().err
