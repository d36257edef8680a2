"""Rows are run once, go on after an interruption, and fail alone."""

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.reproduce import adabm_tables
from dynq_basicsr.reproduce import options as table_options
from dynq_basicsr.reproduce import records as table_records
from dynq_basicsr.reproduce import rows as table_rows
from dynq_basicsr.reproduce import runner as table_runner

BASE = 'options/adabm_srresnet_x4_w4a4.yml'
NAME = 'table_srresnet_adabm'
TRAINING, TESTS = ('train', NAME), [('test', f'{NAME}_patches96_Set5'), ('test', f'{NAME}_patches96_Set14')]
FLOAT_TESTS = [('test', f'table_srresnet_float_patches96_{name}') for name in ('Set5', 'Set14')]


@pytest.fixture
def rows():
    row = table_rows.Row
    return [row('float', 'float', '32/32'), row('cabm', 'CABM', '4/4', ours=False), row('adabm', 'AdaBM', '4/4', BASE)]


@pytest.fixture
def start(project, commands, rows):
    """Run rows, the ones above by default; return what came out."""
    tables = adabm_tables
    protocols = {96: tables.PATCHES, None: tables.WHOLE}

    def run(own=rows, sets=('Set5', 'Set14'), patch_size=96, after_row=lambda outcome: None, data_remedy=''):
        plan = table_options.Plan(
            project, tables.BACKBONES['srresnet'], sets, protocols[patch_size], data_remedy=data_remedy
        )
        return table_runner.TableRunner(plan, commands).run(own, after_row)

    return run


@pytest.fixture
def record(project):
    path = project / 'experiments/tables' / NAME / 'row.json'
    return lambda: table_records.Record.read(path)


def changed(**overrides):
    return [table_rows.Row('adabm', 'AdaBM', '4/4', BASE, overrides)]


def test_rows_are_trained_and_tested_in_order(start, commands, record):
    outcome = start()
    assert commands.taken() == [*FLOAT_TESTS, TRAINING, *TESTS]
    assert not outcome.failures and set(outcome.figures) == {'float', 'adabm'}
    assert outcome.figures['adabm']['Set14'] == {'psnr': 25.5, 'ssim': 0.78, 'fab': 4.1}
    assert record().seconds == {'calibration': 2.0, 'weight': 5.5}


def test_nothing_is_done_twice(start, commands):
    first = start()
    commands.taken()
    assert start() == first and not commands.taken()
    assert start(sets=('Set5',)).figures['adabm'] == {'Set5': first.figures['adabm']['Set5']}
    assert start() == first and not commands.taken()  # fewer data sets in between lose nothing


def test_another_data_set_is_only_tested(start, commands):
    start(sets=('Set5',))
    commands.taken()
    start()
    assert commands.taken() == [FLOAT_TESTS[1], TESTS[1]]


def test_another_protocol_is_only_tested_and_replaces_nothing(start, commands):
    first = start()
    commands.taken()
    start(patch_size=None)
    assert all(kind == 'test' and '_whole_' in name for kind, name in commands.taken())
    assert start() == first and not commands.taken()


def test_other_options_are_run_anew_from_the_beginning(start, commands):
    start()
    commands.taken()
    start(changed(**{'train.lr_decay': 0.5}))
    assert [call[2] for call in commands.calls if call[0] == 'train'] == [[]]
    assert commands.taken() == [TRAINING, *TESTS]


def test_other_weights_are_run_anew(start, commands, project):
    start()
    commands.taken()
    (project / 'datasets/weights/SRResNet/SRResNet_BN_x4.pth').write_bytes(b'other weights')
    start()
    assert commands.taken() == [*FLOAT_TESTS, TRAINING, *TESTS]


def test_interrupted_training_goes_on(start, commands, record):
    commands.trouble = {NAME: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        start()
    assert record().started and not record().trained
    commands.taken()
    commands.trouble = {}
    outcome = start()
    assert commands.calls[0] == ('train', NAME, ['--auto_resume'])
    assert commands.taken() == [TRAINING, *TESTS] and outcome.figures['adabm']
    assert record().seconds == {}  # the timing is that of a part


def test_interrupted_training_of_other_options_begins_anew(start, commands):
    commands.trouble = {NAME: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        start()
    commands.taken()
    commands.trouble = {}
    start(changed(**{'train.lr_decay': 0.5}))
    assert commands.calls[0] == ('train', NAME, [])


def test_interrupted_tests_keep_what_is_done(start, commands):
    commands.trouble = {TESTS[1][1]: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        start()
    commands.taken()
    commands.trouble = {}
    start()
    assert commands.taken() == [TESTS[1]]


def test_a_failing_row_stops_no_other(start, commands, rows):
    commands.trouble = {NAME: DynqError('x.yml failed: no memory.')}
    seen = []
    outcome = start(list(reversed(rows)), after_row=lambda now: seen.append(sorted(now.failures)))
    assert outcome.failures == {'adabm': 'x.yml failed: no memory.'}
    assert set(outcome.figures['float']) == {'Set5', 'Set14'} and outcome.figures['adabm'] == {}
    assert seen == [[], ['adabm'], ['adabm']]


def test_a_row_without_an_option_file_fails_alone(start, rows, capsys):
    absent = table_rows.Row('absent', 'X', '4/4', 'options/absent.yml')
    outcome = start([absent, *rows])
    assert 'absent.yml: no such option file' in outcome.failures['absent'] and len(outcome.figures) == 2
    assert 'absent.yml: no such option file' in capsys.readouterr().out


def test_missing_training_data_end_the_rows_that_are_to_be_trained(start, commands, project):
    outcome = start(data_remedy='make them')
    folder = 'datasets/calibration/DIV2K_test_LR_bicubic/X4'
    assert outcome.failures == {'adabm': f'{folder}: no such training data; make them.'}
    assert commands.taken() == FLOAT_TESTS
    (project / folder).mkdir(parents=True)
    assert not start(data_remedy='make them').failures
    (project / folder).rmdir()
    assert start(data_remedy='make them').figures['adabm']  # it was trained


def test_plain_lines_outside_a_terminal(start, capsys):
    start(sets=('Set5',))
    assert capsys.readouterr().out.splitlines() == [
        '[1/2] float 32/32: testing Set5', '[2/2] AdaBM 4/4: training', '[2/2] AdaBM 4/4: testing Set5',
    ]  # fmt: skip


def test_a_bar_in_a_terminal(capsys, monkeypatch):
    module = table_runner
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    bar = module.RowBar(4, 1)
    bar.step('AdaBM', 'training')
    bar.at(0.45, 'AdaBM: iteration 275 of 550')
    bar.bar.refresh()
    shown = capsys.readouterr()
    assert 'iteration 275 of 550' in shown.err and '1.4/4 rows' in shown.err and '[2/4] AdaBM: training' in shown.out
    bar.row_done()
    assert bar.bar.n == pytest.approx(2)
    bar.close()


def test_a_damaged_record_is_named(start, project, commands):
    start()
    (project / 'experiments/tables' / NAME / 'row.json').write_text('{"started": ')
    assert 'row.json: not a record of a row; remove it' in start().failures['adabm']
