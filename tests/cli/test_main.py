"""The error boundary, the exit codes, and what the program answers without starting jax."""

from __future__ import annotations

import os

import pytest

import approxtrain
from approxtrain import errors
from approxtrain_cli import main

pytestmark = pytest.mark.both

COMMANDS = [
    *("train", "evaluate", "predict", "export", "schedule-show", "schedule-tune", "bench-kernel", "bench-step"),
    *("worth", "reproduce", "report", "ls", "config", "cp", "data"),
]
CODES = {
    errors.ConfigError: 2,
    errors.DataError: 3,
    errors.DivergedError: 4,
    errors.CheckpointError: 5,
    errors.DiskError: 6,
    errors.LockedError: 7,
    errors.VerificationError: 8,
    errors.MemoryShortError: 9,
    errors.LostError: 75,
}


@pytest.fixture
def failing(monkeypatch):
    """Run main() with a command that raises; returns the exit code."""

    def run(error: BaseException, *arguments: str) -> object:
        def fail(kind):
            raise error

        monkeypatch.setattr("approxtrain_cli.ls._content", fail)
        monkeypatch.setattr("sys.argv", ["approxtrain", "ls", *arguments])
        with pytest.raises(SystemExit) as caught:
            main.main()
        return caught.value.code

    return run


def test_every_kind_of_error_has_its_exit_code():
    assert {kind: kind.exit_code for kind in errors.ApproxtrainError.__subclasses__() if kind in CODES} == CODES
    assert set(errors.ApproxtrainError.__subclasses__()) == {*CODES, errors.InterruptedRun, errors.RefusedError}


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", None))
def test_an_error_is_a_message_on_stderr_and_an_exit_code(kind, code, failing, capsys):
    error = kind("the disk is full.", 812) if kind is errors.DivergedError else kind("the disk is full.")
    assert failing(error) == code
    assert capsys.readouterr() == ("", "error: the disk is full.\n")


def test_several_problems_of_a_configuration_are_a_list(failing, capsys):
    failing(errors.ConfigError(["one.", "two."]))
    assert capsys.readouterr().err == "error: 2 problems in the configuration:\n  - one.\n  - two.\n"


def test_debug_shows_the_traceback_wherever_it_stands(failing, capsys):
    assert failing(errors.DataError("no images."), "--debug") == 3
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("error: no images.\n")


def test_debug_by_the_environment_shows_the_traceback(failing, capsys, monkeypatch):
    monkeypatch.setenv("APPROXTRAIN_DEBUG", "1")
    assert failing(errors.DataError("no images.")) == 3
    assert capsys.readouterr().err.startswith("Traceback")


def test_an_interrupt_exits_with_130(failing):
    assert failing(KeyboardInterrupt()) == 130


def test_a_run_that_a_signal_ended_is_reported_without_calling_it_an_error(failing, capsys):
    assert failing(errors.InterruptedRun(15, "saved at step 3.")) == 143
    assert capsys.readouterr().err == "saved at step 3.\n"


def test_an_error_of_ours_is_not_hidden(failing, monkeypatch):
    monkeypatch.setattr("sys.argv", ["approxtrain", "ls"])
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


@pytest.mark.parametrize(
    "arguments", [("report",), ("train", "--resume"), ("train", "--out"), ("predict", "run"), ("cp", "quickstart")]
)
def test_a_path_that_cannot_be_looked_at_is_told_without_a_traceback(call, arguments, tmp_path):
    ended = call(*arguments, tmp_path / ("a" * 300))
    assert ended.code == 6
    assert ended.err.startswith(f"error: `{tmp_path}/aaa")
    assert ended.err.endswith("` cannot be used: File name too long. Give another path, or open it for you.\n")


def test_a_closed_pipe_ends_it_quietly(program):
    read, write = os.pipe()
    os.close(read)
    done = program("ls", stdout=write)
    os.close(write)
    assert done.stderr == ""


def test_a_configuration_error_reaches_the_shell_as_code_2_without_a_traceback(program):
    done = program("schedule-show", "cnn2-aprox")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        "error: 'cnn2-aprox' is neither a preset nor a TOML file. Did you mean 'cnn2-approx'?"
    )
    assert "Traceback" not in done.stderr


def test_a_mistyped_command_is_answered_with_the_right_one(call):
    done = call("trian")
    assert done.code == 2
    assert "Did you mean 'train'?" in done.err


def test_help_lists_every_command(call):
    done = call("--help")
    listed = done.out.partition("Commands:")[2]
    assert done.code == 0
    assert [line.split()[0] for line in listed.splitlines() if line[:3].strip()] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_an_example(command, call):
    done = call(command, "--help", COLUMNS="100")
    assert done.code == 0, done.err
    examples = [line for line in done.out.splitlines() if line.strip().startswith(f"approxtrain {command}")]
    assert examples


def test_no_arguments_show_the_help(call):
    done = call()
    assert "Usage: approxtrain" in done.out + done.err


def test_version_names_the_versions_that_a_report_needs(call):
    done = call("--version")
    assert done.out.startswith(f"approxtrain {approxtrain.__version__} (Python 3.")
    assert ", jax 0." in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["ls"],
        ["schedule-show", "--help"],
        ["data", "--help"],
        ["bench-kernel", "--help"],
        ["bench-step", "--help"],
    ],
    ids=" ".join,
)
def test_it_answers_without_importing_jax(arguments, program):
    code = "import atexit; atexit.register(lambda: print('jax' in sys.modules, file=sys.stderr)); main()"
    done = program(*arguments, code=code)
    assert (done.returncode, done.stderr) == (0, "False\n")


def test_a_terminal_that_knows_no_multiplication_sign_is_no_reason_to_fail(program):
    done = program("ls", "models", PYTHONIOENCODING="ascii", COLUMNS="100")
    assert done.returncode == 0, done.stderr
    assert "5?5 kernels" in done.stdout
