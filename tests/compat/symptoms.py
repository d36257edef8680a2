"""Provoke each symptom in BasicSR as it is, then again with the repairs; prints both outcomes as JSON.

Run in a process of its own, because the repairs change BasicSR for good. The first argument is an empty folder.
"""

import json
import os
import sys

from dynq_basicsr import _autoload

_autoload.Finder.wrapped.pop('basicsr.version')  # torchvision is repaired, or basicsr could not be imported at all
_autoload.install(force=True)

import basicsr.train  # noqa: E402
import torch  # noqa: E402
from basicsr.models.base_model import BaseModel  # noqa: E402
from basicsr.utils import options  # noqa: E402

os.chdir(sys.argv[1])
OPTIONS = """
name: run
model_type: SRModel
num_gpu: 0
manual_seed: 0
datasets: {train: {name: d}}
path: {resume_state: ~}
network_g: {type: MSRResNet}
train: {total_iter: 10, lr: 0.1}
logger: {print_freq: 1, save_checkpoint_freq: 1}
"""


def parse(text: str = OPTIONS, *arguments: str) -> dict:
    with open('options.yml', 'w') as file:
        file.write(text)
    sys.argv = ['train.py', '-opt', 'options.yml', *arguments]
    return options.parse_options(os.path.abspath('root'), is_train=True)[0]


def python_tag() -> str:
    parse(OPTIONS + 'evil: !!python/object/apply:os.mkdir [tag_was_run]\n')
    return 'accepted'


def no_dot() -> str:
    return type(parse(OPTIONS + 'lr: 1e-4\n')['lr']).__name__


def force_yml_code() -> str:
    parse(OPTIONS, '--force_yml', 'train:lr=[__import__("os").mkdir("value_was_run")]')
    return 'accepted'


def force_yml_values() -> list:
    opt = parse(OPTIONS, '--force_yml', 'train:lr=1e-3', 'train:low=-1', 'network_g:new:section=text',
                'train:name=a=b', 'train:old=!!float1e-3', 'train:none=none')
    return [opt['train'][key] for key in ('lr', 'low', 'name', 'old', 'none')] + [opt['network_g']['new']['section']]


def local_rank() -> str:
    parse(OPTIONS, '--local-rank=3')
    return 'accepted'


def resume() -> int:
    """Newest state cut off, the one before whole, current directory elsewhere."""
    opt = parse(OPTIONS, '--auto_resume')
    for folder in ('training_states', 'models'):
        os.makedirs(opt['path'][folder], exist_ok=True)
    for number in (2, 10, 12):
        states = os.path.join(opt['path']['training_states'], f'{number}.state')
        torch.save({'epoch': 0, 'iter': number, 'optimizers': [], 'schedulers': []}, states)
        torch.save({'params': {}}, os.path.join(opt['path']['models'], f'net_g_{number}.pth'))
    os.truncate(os.path.join(opt['path']['training_states'], '12.state'), 100)
    state = basicsr.train.load_resume_state(opt)
    return state and state['iter']


def resume_named() -> int:
    """A whole state, named in the option file."""
    opt = parse(OPTIONS.replace('~', 'root/experiments/run/training_states/10.state'))
    return basicsr.train.load_resume_state(opt)['iter']


def interrupted_epoch() -> list:
    """Batches of an epoch that was interrupted after two of four."""
    loader = torch.utils.data.DataLoader(torch.arange(4), batch_size=1)
    first = basicsr.train.CPUPrefetcher(loader)
    first.reset()
    for _ in range(2):
        first.next()
    if 'dynq_basicsr.compat.interrupted_epoch' in sys.modules:
        from dynq_basicsr.compat import interrupted_epoch as repair
        repair.go_on_from([repair.position()])
    second = basicsr.train.CPUPrefetcher(loader)
    second.reset()
    return [int(batch) for batch in iter(second.next, None)]


def optimizer() -> str:
    weight = torch.nn.Parameter(torch.zeros(1))
    return type(BaseModel.get_optimizer(None, 'AdamW', [{'params': [weight]}], lr=0.1)).__name__


def launcher() -> str:
    os.environ.update(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT='0')
    options.init_dist('pytorch')
    return torch.distributed.get_backend()


def ddp() -> str:
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo', rank=0, world_size=1, init_method=f'file://{os.getcwd()}/meeting')
    model = BaseModel({'num_gpu': 0, 'dist': True, 'is_train': True})
    return type(model.model_to_device(torch.nn.Linear(1, 1))).__name__


def outcome(symptom) -> object:
    try:
        return symptom()
    except (Exception, SystemExit) as error:
        return f'{type(error).__name__}: {error}'


SYMPTOMS = (python_tag, no_dot, force_yml_code, force_yml_values, local_rank, resume, resume_named, interrupted_epoch,
            optimizer, launcher, ddp)


def provoke() -> dict:
    outcomes = {symptom.__name__: outcome(symptom) for symptom in SYMPTOMS}
    torch.distributed.destroy_process_group()
    outcomes['code_that_ran'] = sorted(name for name in os.listdir() if name.endswith('_was_run'))
    for name in outcomes['code_that_ran']:
        os.rmdir(name)
    return outcomes


def main() -> None:
    before = provoke()
    from dynq_basicsr import compat
    compat.apply()
    compat.apply()
    print(json.dumps({'before': before, 'after': provoke()}))


main()
