import subprocess
import sys

FOREIGN = "('torch', 'octavo.engine', 'octavo.server', 'octavo.scheduler', 'octavo.models')"


def test_the_room_imports_no_other_and_no_torch() -> None:
    modules = "octavo.bench, octavo.bench.charts, octavo.bench.report_html, octavo.bench.startup"
    program = (
        f"import sys, {modules}\n"
        f"found = [name for name in sys.modules if name.startswith({FOREIGN})]\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_does_not_load_the_room_before_it_is_asked_for() -> None:
    program = "import sys, octavo.cli.main\nassert 'octavo.bench' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
