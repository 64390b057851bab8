"""The house: three storeys whose arrows point down, small files, and jax only where something is computed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
STOREYS = {  # from the ground up: folder and package
    "kernels": ROOT / "kernels/approxtrain_kernels",
    "approxtrain": ROOT / "approxtrain",
    "cli": ROOT / "cli/approxtrain_cli",
}
ROOMS = [
    "errors",
    "disk",
    "models",
    "data",
    "schedule",
    "config",
    "run",
    "training",
    "bench",
    "paper",
    "report",
    "worth",
]
"""The folders and files of `approxtrain/`, from the ground up."""
PACKAGES = [folder.name for folder in STOREYS.values()]
SOURCES = sorted(file for folder in STOREYS.values() for file in folder.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
HEAVY = {"jax", "jaxlib", "flax", "optax", "matplotlib", "tensorboardX", "grain", "datasets"}
JAX_FREE = [
    "approxtrain",
    "approxtrain.run.archive",
    "approxtrain.config",
    "approxtrain.schedule.cost",
    "approxtrain.data",
    "approxtrain.paper.execute",
    "approxtrain.paper.experiments",
    "approxtrain.models",
    "approxtrain.report.output",
    "approxtrain.paper.estimate",
    "approxtrain.schedule",
    "approxtrain_cli.main",
    "approxtrain_kernels",
    "approxtrain_kernels.methods",
]


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def imports(node: ast.AST) -> Iterator[str]:
    """The top-level packages that the code below `node` imports, at whatever depth."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: relative imports hide the storey; name the package"
            yield (child.module or "").partition(".")[0]


def offences(check) -> list[str]:
    return [f"{relative(file)}: {found}" for file in SOURCES for found in check(file)]


def test_an_import_never_points_to_a_storey_above():
    def upward(file: Path) -> Iterator[str]:
        storey = next(number for number, folder in enumerate(STOREYS.values()) if folder in file.parents)
        yield from (package for package in imports(tree(file)) if package in PACKAGES[storey + 1 :])

    assert offences(upward) == []


def room_of(name: str) -> str:
    """The entry of `approxtrain/` that a file or a module belongs to."""
    return name.removesuffix(".py").removesuffix("_errors")


def rooms_imported(node: ast.AST) -> Iterator[str]:
    """The entries of `approxtrain/` that the code below `node` imports, at whatever depth."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (room_of(a.name.split(".")[1]) for a in child.names if a.name.startswith("approxtrain."))
        elif isinstance(child, ast.ImportFrom) and child.module == "approxtrain":
            yield from (room_of(alias.name) for alias in child.names if room_of(alias.name) in ROOMS)
        elif isinstance(child, ast.ImportFrom) and (child.module or "").startswith("approxtrain."):
            yield room_of(str(child.module).split(".")[1])


def test_a_folder_of_approxtrain_imports_only_what_is_below_it():
    def upward(file: Path) -> Iterator[str]:
        if STOREYS["approxtrain"] not in file.parents or file == STOREYS["approxtrain"] / "__init__.py":
            return
        storey = ROOMS.index(room_of(file.relative_to(STOREYS["approxtrain"]).parts[0]))
        yield from (room for room in rooms_imported(tree(file)) if ROOMS.index(room) > storey)

    assert offences(upward) == []


def test_modules_of_one_folder_import_each_other_in_no_circle():
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in SOURCES}
    modules = {name.removeprefix("cli.").removeprefix("kernels."): file for name, file in modules.items()}
    graph: dict[str, set[str]] = {}
    for name, file in modules.items():
        statements = [node for node in ast.walk(tree(file)) if isinstance(node, ast.ImportFrom) and node.module]
        named = {f"{node.module}.{alias.name}" for node in statements for alias in node.names}
        graph[name] = (named | {str(node.module) for node in statements}) & modules.keys()
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_approxtrain_has_at_most_a_dozen_entries():
    paths = [path for path in STOREYS["approxtrain"].iterdir() if path.suffix == ".py" or any(path.glob("*.py"))]
    entries = {path.name for path in paths} - {"__init__.py"}
    assert {room_of(entry) for entry in entries} == set(ROOMS)
    assert len(entries) <= 12


def test_the_walk_between_folders_sees_what_it_has_to_see():
    code = "from approxtrain import data\nfrom approxtrain.run.record import rows\nimport approxtrain.config.explain"
    assert list(rooms_imported(ast.parse(code))) == ["data", "run", "config"]


def test_the_kernels_import_nothing_but_jax_numpy_llvmlite_and_the_standard_library():
    allowed = {"jax", "jaxlib", "llvmlite", "numpy", "approxtrain_kernels", *sys.stdlib_module_names}
    found = [
        f"{relative(file)}: {package}"
        for file in SOURCES
        if STOREYS["kernels"] in file.parents
        for package in imports(tree(file))
        if package not in allowed
    ]
    assert found == []


def test_the_walk_sees_imports_inside_of_functions():
    code = ast.parse("def f():\n    import approxtrain.data\n    from approxtrain_cli.main import app\n")
    assert list(imports(code)) == ["approxtrain", "approxtrain_cli"]


def test_no_file_is_longer_than_300_lines():
    lengths = {relative(file): len(file.read_text("utf-8").splitlines()) for file in [*SOURCES, *TESTS]}
    assert {file: length for file, length in lengths.items() if length > 300} == {}


def test_no_function_is_longer_than_50_lines_or_100_in_the_kernels():
    def long(file: Path) -> Iterator[str]:
        limit = 100 if STOREYS["kernels"] in file.parents else 50
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > limit:
                    yield f"{node.name} has {length} lines"

    assert offences(long) == []


def test_every_file_is_named_after_what_it_holds():
    vague = {"utils", "util", "common", "helpers", "helper", "misc"}
    assert [relative(file) for file in [*SOURCES, *TESTS] if file.stem.removeprefix("test_") in vague] == []


def test_only_the_command_line_prints():
    def prints(file: Path) -> Iterator[str]:
        if STOREYS["cli"] in file.parents:
            return
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield f"line {node.lineno} prints"

    assert offences(prints) == []


def test_the_command_line_imports_heavy_packages_inside_of_functions_only():
    def heavy(file: Path) -> Iterator[str]:
        if STOREYS["cli"] not in file.parents:
            return
        for statement in tree(file).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                yield from HEAVY.intersection(imports(statement))

    assert offences(heavy) == []


def test_importing_them_does_not_import_jax_or_any_other_heavy_package():
    paths = [str(ROOT), str(ROOT / "cli"), str(ROOT / "kernels")]
    code = f"""
import sys
from importlib import import_module
sys.path[:0] = {paths!r}
for module in {JAX_FREE!r}:
    import_module(module)
    if heavy := {HEAVY!r} & sys.modules.keys():
        print(module, "imports", *heavy)
        break
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
