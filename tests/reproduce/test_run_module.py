"""Commands run from scripts: their log, their iterations, their end."""

import os
import signal
import sys
import time

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.reproduce import run_module


@pytest.fixture
def script(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where the commands run, so a module there can be run
    return run_module


def test_iterations_are_told_and_words_logged(script, tmp_path):
    (tmp_path / 'talker.py').write_text(
        "import sys\nprint('[epoch: 1, iter:     10, lr]')\nprint('iter: 1,250', file=sys.stderr)\n"
        'print(sys.argv[1:])\n'
    )
    seen = []
    script.run_module('talker', 'x.yml', tmp_path / 'log', seen.append, ['--auto_resume'])
    assert sorted(seen) == [10, 1250]
    assert "['-opt', 'x.yml', '--auto_resume']" in (tmp_path / 'log').read_text()


def test_failure_tells_the_last_line(script, tmp_path):
    (tmp_path / 'failing.py').write_text("import sys\nprint('a')\nsys.exit('dynq_basicsr: error: mend it.\\n')\n")
    with pytest.raises(DynqError, match=r'^x.yml failed: mend it. The whole log is in .*log\.$'):
        script.run_module('failing', 'x.yml', tmp_path / 'log')


@pytest.mark.parametrize('kind', [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_the_command(script, tmp_path, monkeypatch, kind):
    (tmp_path / 'endless.py').write_text("import time\nprint('iter: 1', flush=True)\ntime.sleep(100)\n")
    started, plain, before = [], script.subprocess.Popen, signal.getsignal(signal.SIGTERM)

    def remember(*arguments, **options):
        started.append(plain(*arguments, **options))
        return started[0]

    monkeypatch.setattr(script.subprocess, 'Popen', remember)

    def interrupt(iteration):
        os.kill(os.getpid(), kind)
        time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        script.run_module('endless', 'x.yml', tmp_path / 'log', interrupt)
    assert started[0].args[0] == sys.executable and started[0].returncode is not None
    assert signal.getsignal(signal.SIGTERM) is before
