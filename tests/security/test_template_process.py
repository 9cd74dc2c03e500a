"""Requests' templates in a process of their own: what it may have, and how it ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.engine.chat_template import ChatTemplate
from octavo.engine.errors import BadRequestError
from octavo.engine.template_input import TemplateInput
from octavo.engine.template_process import TemplateProcess
from octavo.engine.template_worker import MEMORY_BYTES

from .hostile_templates import BOUNDLESS, NESTED_LOOPS, SHARED_HALVES, TALK


@pytest.fixture
def process() -> Iterator[TemplateProcess]:
    made = TemplateProcess("<s>", None, seconds=0.5)
    yield made
    made.close()


def test_a_template_in_its_own_process_is_rendered_as_here(process: TemplateProcess) -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ x }}"
    )
    talk = [{"role": "user", "content": "Grüße \U0001f600 \ud800"}]
    given = TemplateInput(talk, variables={"x": {"a": [1, None]}})
    assert process.render(source, given) == given.render(ChatTemplate(source, "<s>", None))


@pytest.mark.parametrize(
    ("source", "words", "param"),
    [
        ("{{ raise_exception('not today') }}", "not today", "messages"),
        ("{% for %}", "not valid", "chat_template"),
        (NESTED_LOOPS, r"stopped: it takes more than 0\.5 s", "chat_template"),
        (BOUNDLESS["text times number"], "stopped: it makes a text", "chat_template"),
        (SHARED_HALVES, "stopped", "chat_template"),
    ],
)
def test_a_refusal_names_its_reason_and_the_next_template_is_rendered(
    source: str, words: str, param: str, process: TemplateProcess
) -> None:
    given = TemplateInput(TALK)
    with pytest.raises(BadRequestError, match=words) as caught:
        process.render(source, given)
    assert caught.value.param == param
    assert process.render("{{ messages[0].content }}", given) == "Hi"


def test_the_process_may_have_little_and_holds_no_secret(
    process: TemplateProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", "a-key-of-ours")
    process.render("{{ 1 }}", TemplateInput(TALK))
    pid = _only_child_of(os.getpid())
    proc = Path(f"/proc/{pid}")
    assert b"a-key-of-ours" not in (proc / "environ").read_bytes()
    limits = {line[:26].strip(): line[26:].split()[0] for line in _lines(proc / "limits")}
    assert limits["Max address space"] == str(MEMORY_BYTES)
    assert limits["Max file size"] == limits["Max core file size"] == "0"
    assert int(limits["Max cpu time"]) < 60
    kinds = {os.readlink(link).split(":")[0] for link in (proc / "fd").iterdir()}
    assert kinds <= {"pipe", "/dev/null"}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _only_child_of(pid: int) -> int:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += map(int, (task / "children").read_text().split())
    workers = [
        child
        for child in children
        if b"template_worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    (one,) = workers
    return one


def test_the_process_ends_with_its_parent() -> None:
    code = (
        "import os, octavo.engine.template_process as p, octavo.engine.template_input as i\n"
        "one = p.TemplateProcess(None, None)\n"
        "one.render('{{ 1 }}', i.TemplateInput([]))\n"
        "print(one._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    deadline = threading.Event()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or "Z" in _state_of(pid):
            return
        deadline.wait(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it lives on")


def _state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
