"""Every drill by name, with the counts of a long run."""

import importlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..conftest import TINY_CONTEXT_LENGTH, ServerProcess, StartServer, running_server
from ..fuzz.base_models import write_folder
from .drill_result import DrillResult


@dataclass(frozen=True)
class Surroundings:
    """What drills need: servers of the embedded model and of a quick one, and a folder."""

    start_server: StartServer
    start_tiny: StartServer
    tiny_model: Path
    folder: Path


@dataclass(frozen=True)
class Drill:
    """`run` takes a count, a seed and the surroundings; `count` is that of a long run."""

    count: int
    run: Callable[[int, int, Surroundings], DrillResult]


@contextmanager
def surroundings() -> Iterator[Surroundings]:
    """Make them, for as long as drills run."""
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(prefix="drills-") as name:
        folder = Path(name)
        tiny = folder / "tiny"
        write_folder(tiny, context_length=TINY_CONTEXT_LENGTH)

        def start(*arguments: str) -> AbstractContextManager[ServerProcess]:
            return running_server(folder / f"server-{next(numbers)}.log", *arguments)

        def start_tiny(*arguments: str) -> AbstractContextManager[ServerProcess]:
            return start(str(tiny), *arguments)

        yield Surroundings(start, start_tiny, tiny, folder)


def _drill_of(module: str) -> Callable[..., DrillResult]:
    """Imported when it runs: a drill that is asked for needs nothing of the others."""

    def run(*arguments: object) -> DrillResult:
        found = importlib.import_module(module, __package__)
        result: DrillResult = found.drill(*arguments)
        return result

    return run


def _jump(count: int, seed: int, around: Surroundings) -> DrillResult:
    with pytest.MonkeyPatch.context() as patch:
        folder = around.folder / "clock"
        folder.mkdir()
        return _drill_of(".test_clock_jumps")(count, seed, folder, patch, around.start_tiny)


def _with_room(start: StartServer) -> StartServer:
    """Servers on which the streams are long enough for all kills."""
    return lambda *flags: start(*flags, "--max-model-len", str(TINY_CONTEXT_LENGTH // 2))


_kill = _drill_of(".test_engine_kills")
_stop = _drill_of(".test_front_end_stop")
_pause = _drill_of(".test_pauses")
_kill_front_ends = _drill_of(".test_front_ends")
_exhaust = _drill_of(".test_full_cache")
_fill = _drill_of(".test_full_disk")
_send_frames = _drill_of(".test_internal_socket")
_connect = _drill_of(".test_clients")
_load_files = _drill_of("..fuzz.test_model_files")
_parse = _drill_of("..fuzz.test_parsers")
_call_api = _drill_of(".api_drill")
_soak = _drill_of(".test_soak")

DRILLS = {
    "kills": Drill(50, lambda n, seed, at: _kill(n, 64, seed, _with_room(at.start_tiny))),
    "pauses": Drill(50, lambda n, seed, at: _pause(n, 16, seed, at.start_tiny)),
    "front-ends": Drill(20, lambda n, seed, at: _kill_front_ends(n, seed, at.start_tiny)),
    "stop": Drill(20, lambda n, seed, at: _stop(n, 32, seed, at.start_tiny)),
    "cache": Drill(64, lambda n, seed, at: _exhaust(n, 700, seed, at.start_tiny)),
    "disk": Drill(10, lambda n, seed, at: _fill(n, seed, at.tiny_model)),
    "clock": Drill(50, _jump),
    "frames": Drill(20_000, lambda n, seed, at: _send_frames(n, seed, at.start_tiny)),
    "clients": Drill(1000, lambda n, seed, at: _connect(n, seed, at.start_tiny)),
    "files": Drill(5000, lambda n, seed, at: _load_files(n, seed)),
    "parsers": Drill(3000, lambda n, seed, at: _parse(n, seed)),
    "api": Drill(300, lambda n, seed, at: _call_api(n, seed, at.start_tiny)),
    "soak": Drill(20_000, lambda n, seed, at: _soak(n, seed, at.start_tiny)),
}
