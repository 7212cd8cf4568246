"""The package's floors: what may import what, and which file is the one door to each heavy package."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "convtl"

# A folder stands for all files in it. A file imports only from lower floors, and on its own floor only
# from its own folder.
FLOORS = {
    "__init__": 0,
    "errors": 0,
    "entry": 3,
    "keys": 0,
    "config": 1,
    "storage": 1,
    "runtime": 2,
    "models": 3,
    "data": 3,
    "measure": 3,
    "transfer": 4,
    "training": 5,
    "study": 6,
    "tracking": 7,
    "analysis": 7,
    "reporting": 8,
    "cli": 8,
    "conduct": 10,
    "run": 11,
    "report": 9,
    "cache": 9,
    "__main__": 12,
    "describe": 9,
    "predict": 9,
}

DOORS = {
    "hydra": ("cli",),
    "omegaconf": ("cli",),
    "tensorflow": ("data/",),
    "tensorflow_datasets": ("data/",),
    "orbax": ("storage/checkpoint",),
    "wandb": ("tracking",),
    "torch": ("models/weights/files",),
    "safetensors": ("models/weights/files", "study/nets"),
    "huggingface_hub": ("models/weights/files",),
    "matplotlib": (
        "reporting/figures/",
        "reporting/report",
        "reporting/samples",
        "data/typed_script",
    ),
}

MOST_LINES = 410
MOST_LETTERS = 80  # in the first line of a docstring (CONTRIBUTING.md: Style)


@cache
def _files() -> list[str]:
    """Every file of the package, as `folder/name`."""
    return sorted(
        path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py")
    )


def _room(file: str) -> str:
    """What the floor table knows a file by: its folder or, beside the folders, its own name."""
    return file.partition("/")[0]


@cache
def _imports(file: str) -> list[tuple[int, str]]:
    """(line, dotted module) of every import of a file, those inside functions too."""
    imports: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse((PACKAGE / f"{file}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imports += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, (
                f"convtl/{file}.py:{node.lineno}: import by full name, not relatively"
            )
            module = str(node.module)
            for alias in node.names:
                submodule = f"{module}.{alias.name}"
                imports.append((node.lineno, submodule if _own(submodule) else module))
    return imports


def _own(module: str) -> str | None:
    """`folder/name` of one of the package's modules; None for anything else."""
    if module.partition(".")[0] != "convtl":
        return None
    path = module.replace(".", "/").removeprefix("convtl").lstrip("/")
    for file in (path, f"{path}/__init__".lstrip("/")):
        if path + file and (PACKAGE / f"{file}.py").is_file():
            return file
    return None


@pytest.mark.parametrize("folder", sorted({_room(file) for file in _files()}))
def test_a_file_imports_only_from_lower_floors_or_its_own_folder(folder: str) -> None:
    for file in _files():
        if _room(file) == folder:
            _check_imports(file)


def _check_imports(file: str) -> None:
    room = _room(file)
    assert room in FLOORS, (
        f"convtl/{file}.py has no floor: name `{room}` in FLOORS (convtl/README.md: Rooms)"
    )
    for line, module in _imports(file):
        other = _own(module)
        if other is None or other == "__init__":
            continue
        target = _room(other)
        same_folder = (
            target == room if "/" in file else "/" not in other and FLOORS[target] == FLOORS[room]
        )
        assert FLOORS[target] < FLOORS[room] or same_folder, (
            f"convtl/{file}.py:{line} (floor {FLOORS[room]}) imports {module} (floor {FLOORS[target]})"
        )


@cache
def _of_types(file: str) -> set[int]:
    """Lines that only type checkers read."""
    tree = ast.parse((PACKAGE / f"{file}.py").read_text(encoding="utf-8"))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    typing = [node for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING"]
    return {inner.lineno for node in typing for inner in node.body}


def test_no_two_files_import_each_other() -> None:
    graph = {
        file: {
            other
            for line, module in _imports(file)
            if (other := _own(module)) and line not in _of_types(file)
        }
        for file in _files()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the cycle


@pytest.mark.parametrize("package", DOORS)
def test_heavy_packages_have_one_door(package: str) -> None:
    for file in _files():
        for line, module in _imports(file):
            if module.partition(".")[0] == package:
                assert file.startswith(
                    tuple(door for door in DOORS[package] if door.endswith("/"))
                ) or (file in DOORS[package]), (
                    f"convtl/{file}.py:{line} imports {module}: its door is {' or '.join(DOORS[package])}"
                )


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"jax", "flax", "optax", "numpy", "pandas", *DOORS}
    code = "import sys, convtl; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert heavy.isdisjoint(done.stdout.split())


def test_files_stay_short() -> None:
    texts = {file: (PACKAGE / f"{file}.py").read_text(encoding="utf-8") for file in _files()}
    lines = {file: len(text.splitlines()) for file, text in texts.items()}
    assert not {file: count for file, count in lines.items() if count > MOST_LINES}


def _first_lines(file: str) -> Iterator[tuple[str, str]]:
    """Yield names and docstrings' first lines: of a module, its classes and functions."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse((PACKAGE / f"{file}.py").read_text(encoding="utf-8"))):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "module"), text.splitlines()[0]


def test_docstrings_begin_with_a_short_sentence() -> None:
    """Or with the usage of a command, which `--help` prints."""
    long = [
        f"convtl/{file}.py: {name}: {line}"
        for file in _files()
        for name, line in _first_lines(file)
        if not line.startswith("usage:") and (len(line) > MOST_LETTERS or line[-1] not in ".:?")
    ]
    assert not long
