"""Graphs as functions of arrays, by ONNX Runtime or OpenVINO."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from dynq_basicsr.doctor.require import require
from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.grids import Grids, inputs_of
from dynq_basicsr.runtime.onnx_bytes import with_constants

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Session = Callable[[np.ndarray], np.ndarray]
Numbers = Mapping[str, np.ndarray]  # of grids, by the names of inputs
# From the numbers of a bit assignment to a function of the image, and whether it takes one sample alone.
Binder = Callable[[Numbers], tuple[Session, bool]]


def open_session(
    content: bytes, name: str, runtime: str = 'onnxruntime', threads: int = 0, precision: str = 'f32'
) -> Session:
    """Make a graph ready to run on the CPU; see ``open_sessions``.

    Args:
        content: An ONNX file with one input and one output.
        name: The file, to be named in errors.
        runtime: One of ``choices.RUNTIMES``.
        threads: Of the CPU; 0: as many as it has cores.
        precision: Of float products, OpenVINO only: ``f32`` or ``bf16``.
    """
    return open_sessions(content, name, {'': {}}, runtime, threads, precision)['']


def open_sessions(
    content: bytes,
    name: str,
    assignments: Mapping[str, Grids],
    runtime: str = 'onnxruntime',
    threads: int = 0,
    precision: str = 'f32',
) -> dict[str, Session]:
    """Make a graph ready to run on the CPU, at several bit assignments; one that takes a single sample runs once for
    each. ONNX Runtime holds its weights once.

    Args:
        content: An ONNX file with one output; its inputs are ``image`` and numbers of grids, see ``runtime.grids``.
        name: The file, to be named in errors.
        assignments: Grids by code.
        runtime: One of ``choices.RUNTIMES``.
        threads: Of the CPU; 0: as many as it has cores.
        precision: Of float products, OpenVINO only: ``f32`` or ``bf16``.

    Returns:
        By code, a function of the image, float32, that gives the output.

    Raises:
        DynqError: If the runtime is not installed or does not take the graph; from the function, if it fails.
    """
    open_it = {'onnxruntime': _open_onnxruntime, 'openvino': _open_openvino}[runtime]
    try:
        bind = open_it(content, threads, precision)
        bound = {code: bind(inputs_of(grids)) for code, grids in assignments.items()}
    except DynqError:
        raise
    except Exception as error:  # both runtimes raise classes of their own, derived from Exception or RuntimeError
        reason = f'{runtime} does not take the graph ({_line(error)})'
        raise DynqError(f'{name}: {reason}; export the network again.') from error
    return {code: _session(name, runtime, *parts) for code, parts in bound.items()}


def _session(name: str, runtime: str, run: Session, single: bool) -> Session:
    def session(x: np.ndarray) -> np.ndarray:
        try:
            return np.concatenate([run(sample[None]) for sample in x]) if single else run(x)
        except Exception as error:
            raise DynqError(f'{name}: {runtime} failed on an input of {x.shape} ({_line(error)}).') from error

    return session


def onnxruntime_session(content: bytes, threads: int = 0, profile: str = '') -> InferenceSession:
    """ONNX Runtime's own session, for graphs of several inputs or outputs; see ``open_session``.

    Args:
        content: An ONNX file.
        threads: Of the CPU; 0: as many as it has cores.
        profile: How the path of a profile begins that the session writes when it ends; empty: none.

    Raises:
        DynqError: If it is not installed.
    """
    runtime = _import('onnxruntime')
    share_arena(runtime)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # errors are raised, too
    options.enable_profiling, options.profile_file_prefix = bool(profile), profile
    # Of several graphs, one runs at a time: they share one arena, and threads of the others do not spin meanwhile.
    # Memory patterns, one for each shape of a batch, would keep that many plans' memory.
    options.enable_mem_pattern = False
    options.add_session_config_entry('session.use_env_allocators', '1')
    options.add_session_config_entry('session.force_spinning_stop', '1')
    if not has_vnni():  # products of unsigned and signed bytes would saturate at 16 bits; exact ones take twice as long
        options.add_session_config_entry('session.x64quantprecision', '1')
    return runtime.InferenceSession(content, options, providers=['CPUExecutionProvider'])


@cache
def has_vnni(cpuinfo: Path = Path('/proc/cpuinfo')) -> bool:
    """Whether the CPU is known to add products of bytes in 32 bits, as x86 processors with VNNI do (Linux only)."""
    try:
        text = cpuinfo.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return False
    return re.search(r'^flags\s*:.*vnni', text, re.MULTILINE) is not None


def _open_onnxruntime(content: bytes, threads: int, precision: str) -> Binder:
    session = onnxruntime_session(content, threads)
    image, *numbers = session.get_inputs()

    def bind(values: Numbers) -> tuple[Session, bool]:
        given = {one.name: values[one.name] for one in numbers}
        return lambda x: session.run(None, {image.name: x, **given})[0], image.shape[0] == 1

    return bind


@cache
def share_arena(runtime: ModuleType) -> None:
    """Let all sessions of this process take memory from one arena, so that it does not grow with their number."""
    memory = runtime.OrtMemoryInfo('Cpu', runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    runtime.create_and_register_allocator(memory, runtime.OrtArenaCfg(0, 1, -1, -1))


def _open_openvino(content: bytes, threads: int, precision: str) -> Binder:
    openvino = _import('openvino')
    core = openvino.Core()
    settings = {
        'INFERENCE_NUM_THREADS': threads,
        'INFERENCE_PRECISION_HINT': precision,  # else it takes bfloat16 where the CPU has it
        'PERFORMANCE_HINT': 'LATENCY',
    }

    def bind(values: Numbers) -> tuple[Session, bool]:
        # as constants, and before it reads the graph: else it finds no integer kernels
        model = core.compile_model(core.read_model(with_constants(content, values)), 'CPU', settings)
        _, *unknown = model.inputs
        if unknown:
            raise KeyError(unknown[0].any_name)
        request = model.create_infer_request()
        # it gives a view of memory that the next run overwrites
        return lambda x: request.infer([x])[0].copy(), model.input(0).partial_shape[0] == 1

    return bind


def _import(name: str) -> ModuleType:
    require(name)
    return import_module(name)


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())[:200]
