"""What an installation holds. That the built wheel works from another folder is a step of the gate."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import approxtrain

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]


def test_the_wheel_holds_the_three_packages_with_their_type_marks():
    assert WHEEL["packages"] == ["approxtrain", "cli/approxtrain_cli", "kernels/approxtrain_kernels"]
    assert all((ROOT / package / "py.typed").is_file() for package in WHEEL["packages"])


def test_the_wheel_holds_the_presets_where_the_configuration_looks_for_them(monkeypatch, tmp_path):
    from approxtrain.config import toml

    assert WHEEL["force-include"] == {"configs": "approxtrain/presets"}
    monkeypatch.setattr(toml, "__file__", str(tmp_path / "site-packages/approxtrain/config/toml.py"))
    assert toml._preset_folder() == tmp_path / "site-packages/approxtrain/presets"


def test_a_folder_called_configs_beside_an_installed_package_is_not_taken_for_ours(monkeypatch, tmp_path):
    from approxtrain.config import toml

    (tmp_path / "configs").mkdir()
    monkeypatch.setattr(toml, "__file__", str(tmp_path / "approxtrain/config/toml.py"))
    assert toml._preset_folder() == tmp_path / "approxtrain/presets"


def test_the_version_is_stated_once():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert f"## {approxtrain.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"version: {approxtrain.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_the_license_is_the_one_that_is_declared():
    assert PROJECT["project"]["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text


@pytest.mark.parametrize(
    "script", [".ci/run", *(f"tools/{file.name}" for file in sorted((ROOT / "tools").glob("*.sh")))]
)
def test_a_script_can_be_called_and_parsed(script):
    path = ROOT / script
    assert os.access(path, os.X_OK)
    shell = path.read_text("utf-8").splitlines()[0].removeprefix("#!").split()[-1].removeprefix("/bin/")
    subprocess.run([shell, "-n", path], check=True)


def test_continuous_integration_calls_the_gate_and_each_night_every_case():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    nightly = "${{ github.event_name == 'schedule' && 'test-all' || 'test' }}"
    assert re.findall(r"- run: (.*)", workflow) == [f"make {nightly}"]
    assert "schedule:" in workflow
    assert (ROOT / ".ci/run").read_text("utf-8").splitlines()[-1] == "make test"


def test_an_interpreter_on_the_path_that_does_not_run_is_passed_over(tmp_path):
    version = "{}.{}".format(*sys.version_info[:2])
    shim = tmp_path / f"shims/python{version}"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    real = tmp_path / f"pyenv/versions/{version}.0/bin/python"
    real.parent.mkdir(parents=True)
    real.symlink_to(sys.executable)
    environment = {"PATH": f"{shim.parent}:/usr/bin:/bin", "PYENV_ROOT": str(tmp_path / "pyenv")}
    script = ROOT / "tools/find_python.sh"
    found = subprocess.run([script, version], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(real)


def test_make_alone_lists_the_targets():
    shown = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True).stdout
    assert all(f"make {target}" in shown for target in ("demo", "check", "test", "test-all", "env", "lint", "clean"))


def test_how_to_contribute_fits_into_forty_lines():
    assert len((ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()) <= 40
