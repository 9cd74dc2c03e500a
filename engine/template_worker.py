"""The process that renders templates of requests: `python -m octavo.engine.template_worker`.

It reads jobs from its standard input and writes what became of them to its standard output, one at
a time, each as four bytes of length and JSON. It may have little memory, no files and, for each
job, little processor time; its parent ends it if it does not answer. It holds no model and no key.
"""

import json
import math
import os
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

from .chat_template import ChatTemplate
from .errors import BadRequestError, ConfigurationError
from .template_input import TemplateInput, over_the_limit
from .template_limits import TemplateLimitError

LENGTH = struct.Struct("<I")
MEMORY_BYTES = 1 << 30
READY = {"ready": True}


def main() -> None:
    """Work until the standard input ends, as it does when the parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the parent, which ends us when it ends
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _write(sink, READY)
    while (job := _read(source)) is not None:
        _limit_processor_time(job["seconds"])
        _write(sink, _do(job))


def _do(job: dict[str, Any]) -> dict[str, str | None]:
    """The text, or the message and the field of a refusal."""
    try:
        template = ChatTemplate(job["source"], job["bos_token"], job["eos_token"])
        return {"text": TemplateInput(**job["input"]).render(template, job["seconds"])}
    except BadRequestError as error:
        return {"refusal": error.message, "param": error.param}
    except ConfigurationError as error:
        return {"refusal": error.message, "param": "chat_template"}
    except TemplateLimitError as error:
        return {"refusal": over_the_limit(error, "").message, "param": "chat_template"}


def _limit_processor_time(seconds: float) -> None:
    """For this job: without a parent to end it, it ends by SIGXCPU."""
    spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    soft = math.ceil(spent + 2 * seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _read(source: BinaryIO) -> dict[str, Any] | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    job: dict[str, Any] = json.loads(source.read(LENGTH.unpack(head)[0]))
    return job


def _write(sink: BinaryIO, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    sink.write(LENGTH.pack(len(body)) + body)
    sink.flush()


if __name__ == "__main__":
    main()
    os._exit(0)
