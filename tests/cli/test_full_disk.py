"""An error that cannot be printed, since standard error is a disk that is full."""

import subprocess
import sys

# A traceback on a full disk is not to be seen, so what is not caught tells of itself elsewhere.
MAIN = """
from octavo.cli.main import main
try:
    main()
except OSError as error:
    print(repr(error))
"""


def test_an_error_that_cannot_be_printed_has_the_same_exit_code() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", MAIN, "info", "/no/such/model"],
            stdout=subprocess.PIPE,
            stderr=full,
            timeout=60,
        )
    assert (ended.returncode, ended.stdout) == (1, b"")
