"""The script runs as it would have run by itself; what cannot be is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness import Process

SCRIPT = """
import sys
print("I am", __name__, sys.argv[1:], sys.path[0])
import neighbour
if sys.argv[1:] == ["raise"]: raise ValueError("mine")
sys.exit(3)
"""


def run(directory: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    (directory / "scripts").mkdir(exist_ok=True)
    (directory / "scripts" / "server.py").write_text(SCRIPT)
    (directory / "scripts" / "neighbour.py").write_text("")
    log = directory / "log"
    log.unlink(missing_ok=True)
    options = ["--ingress", "http://127.0.0.1:9", "--data-dir", "data", "--flush-seconds", "0"]
    process = Process([sys.executable, "-m", "voicebus_tap", *options, *arguments], environment, log)
    return process.popen.wait(60), log.read_text()


def test_a_script_has_its_name_arguments_directory_and_exit_code(tmp_path: Path) -> None:
    code, said = run(tmp_path, "scripts/server.py", "--port", "1")
    assert code == 3
    assert f"I am __main__ ['--port', '1'] {tmp_path / 'scripts'}" in said


def test_an_error_of_the_script_is_its_own(tmp_path: Path) -> None:
    code, said = run(tmp_path, "scripts/server.py", "raise")
    assert code == 1 and "ValueError: mine" in said


def test_a_library_that_is_missing_is_said_once_and_the_server_runs(tmp_path: Path) -> None:
    for name in ("websockets", "requests"):
        (tmp_path / f"{name}.py").write_text("raise ImportError(__name__)")
    code, said = run(tmp_path, "scripts/server.py")
    assert code == 3
    assert said.count("not here: websockets") == 1 and said.count("not here: requests") == 1


@pytest.mark.parametrize(("arguments", "environment", "why"), [
    (["no-such.py"], {}, "there is no script"),
    (["--ingress", "localhost", "scripts/server.py"], {}, "--ingress must be"),
    (["--protect", "scripts/server.py"], {}, "--protect needs a token"),
    (["--data-dir", "/proc/none", "scripts/server.py"], {}, "cannot be written"),
    (["scripts/server.py"], {"VOICEBUS_TAP_TOKEN_FILE": "/none"}, "VOICEBUS_TAP_TOKEN_FILE cannot be read"),
    (["scripts/server.py"], {"VOICEBUS_TAP_TOKEN": "a\nb"}, "one token of visible ASCII"),
])
def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], why: str
) -> None:
    code, said = run(tmp_path, *arguments, **environment)
    assert code == 64 and why in said and "Traceback" not in said
