"""Trainings in two processes of which one is killed; prints what the other one says, as JSON.

Arguments: an option file, then moments, ``WHEN:RANK``. The ranks are forked, because starting them costs seconds.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dynq_basicsr import cli, registration

registration.register()

from dynq_basicsr.models import resumable_model  # noqa: E402
from dynq_basicsr.models.quantized_model import QuantizedModel  # noqa: E402


def die_before(owner: object, name: str, is_time: Callable[..., bool]) -> None:
    plain = getattr(owner, name)

    def die_or_go_on(*arguments: object, **named: object) -> object:
        if is_time(*arguments, **named):
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*arguments, **named)

    setattr(owner, name, die_or_go_on)


MOMENTS = {
    'setup': lambda: die_before(QuantizedModel, 'model_to_device', lambda *_, **__: True),
    'training': lambda: die_before(QuantizedModel, 'iterate', lambda model, iteration: iteration == 3),
    'validation': lambda: die_before(QuantizedModel, '_evaluate_image', lambda *_, **__: True),
    'saving': lambda: die_before(resumable_model, 'save_atomically', lambda content, path: path.name == '2.state'),
    'the end': lambda: die_before(QuantizedModel, 'save', lambda model, epoch, current_iter: current_iter == -1),
}


def start(rank: int, port: int, moment: str | None, log: Path, *arguments: str) -> int:
    """Fork a rank, as torchrun would start it: in a session of its own."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                      MASTER_PORT=str(port))  # fmt: skip
    if moment:
        MOMENTS[moment]()
    code = 1
    try:
        code = cli.main(['train', *arguments, '--launcher', 'pytorch'])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def train(options: str, moment: str, victim: int) -> dict:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    logs = [Path(f'{moment} {victim} {rank}.log') for rank in range(2)]
    ranks = [
        start(rank, port, moment if rank == victim else None, logs[rank], '-opt', options, '--force_yml',
              f'name={moment} {victim}')
        for rank in range(2)
    ]  # fmt: skip
    assert os.waitstatus_to_exitcode(os.waitpid(ranks[victim], 0)[1]) == -signal.SIGKILL, logs[victim].read_text()
    begin = time.monotonic()
    with suppress(ProcessLookupError):  # workers of the dead hold its connections for some seconds more
        os.killpg(ranks[victim], signal.SIGKILL)
    if moment not in ('setup', 'the end'):  # where nobody listens to signals
        os.kill(ranks[1 - victim], signal.SIGTERM)  # torchrun ends the others so
    code = os.waitstatus_to_exitcode(os.waitpid(ranks[1 - victim], 0)[1])
    return {'code': code, 'seconds': time.monotonic() - begin, 'log': logs[1 - victim].read_text()}


moments = [one.split(':') for one in sys.argv[2:]]
print(json.dumps({f'{moment}:{victim}': train(sys.argv[1], moment, int(victim)) for moment, victim in moments}))
