"""Runs the rows of a table, whatever method they are of: what is done is not done again, one failure stops no other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from tqdm import tqdm

from dynq_basicsr.compat.safe_yaml import OptionDumper
from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.tables import read_metrics
from dynq_basicsr.reproduce.options import Job, Plan
from dynq_basicsr.reproduce.records import Fingerprints, Record
from dynq_basicsr.reproduce.rows import Row
from dynq_basicsr.reproduce.run_module import run_module

TRAINING_SHARE = 0.9  # of the time of a row, for the bar
Execute = Callable[..., None]  # as run_module.run_module


@dataclass
class Outcome:
    """What came out: row -> data set -> metric -> value, and row -> why it failed."""

    figures: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class RowBar:
    """A bar over rows, with the time that remains, in a terminal; plain lines elsewhere.

    Args:
        total: Number of rows.
        done: Of them, before anything was run.
    """

    def __init__(self, total: int, done: int) -> None:
        self.total, self.count, self.base = total, done, float(done)
        form = '{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total} rows [{elapsed}, {remaining} left]'
        self.bar = tqdm(total=total, initial=done, disable=None, bar_format=form, leave=False, dynamic_ncols=True)

    def step(self, title: str, doing: str) -> None:
        """Begin something that takes a while."""
        self.say(f'[{self.count + 1}/{self.total}] {title}: {doing}')
        self.bar.set_description_str(f'{title}: {doing}')

    def at(self, share: float, words: str) -> None:
        """Say how far the row is, 0..1."""
        self.bar.set_description_str(words, refresh=False)
        self.bar.update(self.base + share - self.bar.n)

    def row_done(self) -> None:
        """Count a row."""
        self.count += 1
        self.base += 1
        self.bar.update(self.base - self.bar.n)

    def say(self, line: str) -> None:
        """Write a line that stays."""
        if self.bar.disable:
            sys.stdout.write(line + '\n')
            sys.stdout.flush()
        else:
            self.bar.write(line)

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()


class TableRunner:
    """Runs the rows of one plan.

    Each row has a folder ``experiments/tables/NAME``: its option files, its log, and ``row.json``, which tells of which
    options network and figures are. A network is trained once for all tables. An interrupted training goes on from its
    last saved state, if its options are still the same.

    Args:
        plan: What the rows have in common.
        execute: Runs a command; as ``run_module.run_module``.
    """

    def __init__(self, plan: Plan, execute: Execute = run_module) -> None:
        self.plan, self.root, self.execute = plan, plan.root, execute

    def run(self, rows: Sequence[Row], after_row: Callable[[Outcome], None]) -> Outcome:
        """Run all rows that are not paper-only.

        Args:
            rows: In order.
            after_row: Called with what is known, at the start and after each row that was run.

        Returns:
            Figures and failures.
        """
        outcome, jobs = Outcome(), {}
        for row in rows:
            if row.ours:
                try:
                    job = self.plan.job(row)
                    outcome.figures[row.key], jobs[row.key] = self.known(job), job
                except DynqError as error:
                    outcome.failures[row.key] = str(error)
        waiting = {key: job for key, job in jobs.items() if len(outcome.figures[key]) < len(job.tests)}
        bar = RowBar(len(jobs), len(jobs) - len(waiting))
        try:
            after_row(outcome)
            for key, message in outcome.failures.items():
                bar.say(f'{key}: {message}')
            for key, job in waiting.items():
                try:
                    self._run_job(job, bar)
                except DynqError as error:
                    outcome.failures[key] = str(error)
                    bar.say(f'{job.title}: {error}')
                outcome.figures[key] = self.known(job)
                bar.row_done()
                after_row(outcome)
        finally:
            bar.close()
        return outcome

    def known(self, job: Job) -> dict[str, dict[str, float]]:
        """Data set -> figures of the tests that were run with these very options."""
        record, marks = self._record(job), Fingerprints.of(job, self.root)
        entries = {name: record.tests.get(options['name'], {}) for name, options in job.tests.items()}
        return {name: one['figures'] for name, one in entries.items() if one.get('options') == marks.tests[name]}

    def _run_job(self, job: Job, bar: RowBar) -> None:
        record, marks = self._record(job), Fingerprints.of(job, self.root)
        record.path.parent.mkdir(parents=True, exist_ok=True)
        if job.train is not None:
            self._train(job, record, marks.training, bar)
        done = self.known(job)
        for index, (name, options) in enumerate(job.tests.items()):
            if name in done:
                continue
            share = index / len(job.tests)
            bar.at(TRAINING_SHARE + (1 - TRAINING_SHARE) * share if job.train else share, job.title)
            bar.step(job.title, f'testing {options["datasets"]["test_1"]["name"]}')
            self._execute(job, 'test', options)
            figures = read_metrics(self.root / 'results' / options['name'])[name]
            record.tests[options['name']] = {'options': marks.tests[name], 'figures': figures}
            record.write()

    def _train(self, job: Job, record: Record, mark: str, bar: RowBar) -> None:
        experiment = self.root / 'experiments' / job.name
        if record.trained == mark and (experiment / 'models/net_g_latest.pth').is_file():
            return
        self.plan.check_data(job)
        # Of other options, a network or a state must not be taken up; BasicSR moves such an experiment aside.
        resumes = record.started == mark and any((experiment / 'training_states').glob('*.state'))
        record.started, record.trained, record.seconds = mark, '', {}
        record.write()
        total = job.train['train']['total_iter']
        bar.step(job.title, 'training goes on' if resumes else 'training')

        def show(iteration: int) -> None:
            share = TRAINING_SHARE * min(iteration / total, 1)
            bar.at(share, f'{job.title}: iteration {iteration} of {total}')

        self._execute(job, 'train', job.train, show, ['--auto_resume'] if resumes else [])
        timing = experiment / 'adabm_timing.json'
        if timing.is_file() and not resumes:
            record.seconds = json.loads(timing.read_text(encoding='utf-8'))
        record.trained = mark
        record.write()

    def _execute(self, job: Job, kind: str, options: dict, show: Callable = lambda iteration: None,
                 flags: Sequence[str] = ()) -> None:  # fmt: skip
        folder = self._folder(job)
        file = folder / f'{options["name"]}_{kind}.yml'
        file.write_text(yaml.dump(options, Dumper=OptionDumper, sort_keys=False), encoding='utf-8')
        self.execute(f'dynq_basicsr.{kind}', file, folder / 'log.txt', show, flags)

    def _folder(self, job: Job) -> Path:
        return self.root / 'experiments' / 'tables' / job.name

    def _record(self, job: Job) -> Record:
        return Record.read(self._folder(job) / 'row.json')
