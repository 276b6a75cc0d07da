"""The house laws as tests: what may import what, what may not be written, and what an import may cost."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

# Imports go down only: a room may import itself and what stands to its right. `cli` is a face above all rooms.
ROOMS = ("cli", "dags", "pipelines", "storage", "quality", "schemas")
# They take long to load, or do more than load: only the functions that use them import them.
# quality/gx is what extends Great Expectations: nobody imports it but who wants that.
HEAVY = {"av", "duckdb", "great_expectations", "onnxruntime", "pandas", "pyspark", "ray", "scipy", "torch"}
# The one place that reads the wall clock and names runs is pipelines/run.py; everything else is given the time. Delta's
# own books are no results: files need names that nobody else takes, commits say when they were made, and writers that
# lost a race wait for a while that the others do not. Great Expectations wants to know when a batch was loaded.
CLOCK_ROOM = {"pipelines/run.py", "quality/gx/engine.py", "storage/log/entries.py", "storage/parquet.py"}
CHANCE_ROOM = {"storage/group.py", "storage/table.py"}
CLOCKS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("uuid", "uuid1"),
    ("uuid", "uuid4"),
}
FUNCTION_LINES, FILE_LINES = 80, 500


def tracked() -> list[Path]:
    """Files git knows or would add, relative to the checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    paths = (Path(line) for line in dict.fromkeys(listed))
    return sorted(path for path in paths if (CHECKOUT / path).is_file() and path.parts[0] != "typings")


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]
PACKAGE = [path for path in PYTHON if path.parts[0] in ROOMS or len(path.parts) == 1]
TREES = {path: ast.parse((CHECKOUT / path).read_text(encoding="utf-8"), str(path)) for path in PYTHON}


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(("reclake", *(parts[:-1] if parts[-1] == "__init__" else parts)))


# Compiled modules are known by their stubs.
MODULES = {module_of(path): path for path in FILES if path in PACKAGE or path.suffix == ".pyi"}


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """(module of ours, line) for every import in a file of the package, wherever in it the import stands."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join([*base, node.module] if node.module else base)
            inner = [f"{origin}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else origin for name in inner]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name.split(".")[0] == "reclake")


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "reclake"


def test_imports_go_down_only() -> None:
    rank = {room: place for place, room in enumerate(("reclake", "__main__", *ROOMS))}
    wrong = [
        f"{path}:{line} imports {name}"
        for path in PACKAGE
        for name, line in imported(path)
        if rank[room_of(name)] < rank[room_of(module_of(path))]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_import_of_ours_names_a_module_that_exists() -> None:
    wrong = [f"{path}:{line} {name}" for path in PACKAGE for name, line in imported(path) if name not in MODULES]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_not_even_inside_functions() -> None:
    graph = {module_of(path): sorted({name for name, _ in imported(path)} - {module_of(path)}) for path in PACKAGE}
    done: set[str] = set()
    circles: list[str] = []

    def walk(module: str, way: tuple[str, ...]) -> None:
        if module in way:
            circles.append(" -> ".join((*way[way.index(module) :], module)))
        elif module not in done:
            for name in graph.get(module, ()):
                walk(name, (*way, module))
            done.add(module)

    for module in graph:
        walk(module, ())
    assert not circles, "\n".join(circles)


def test_rooms_import_each_other_relatively() -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for path in PACKAGE
        for node in ast.walk(TREES[path])
        if (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "reclake")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "reclake" for alias in node.names))
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_libraries_are_imported_by_the_function_that_uses_them() -> None:
    wrong = []
    for path in PACKAGE:
        if path == Path("dags/airflow.py") or path.parts[:2] == ("quality", "gx"):
            continue
        for node in top_level(TREES[path]):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            wrong += [f"{path}:{node.lineno} {name}" for name in names if name.split(".")[0] in HEAVY]
    assert not wrong, "\n".join(wrong)


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run on import: not the bodies of functions, nor what only type checkers see."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def test_a_face_only_re_exports() -> None:
    wrong = []
    for path in PACKAGE:
        if path.name != "__init__.py" or path == Path("__init__.py"):
            continue
        for node in TREES[path].body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            if not (docstring or names or isinstance(node, ast.Import | ast.ImportFrom)):
                wrong.append(f"{path}:{node.lineno}")
    assert not wrong, "\n".join(wrong)


def test_no_error_is_caught_and_forgotten() -> None:
    wide = {"Exception", "BaseException"}
    silent = (ast.Pass, ast.Continue, ast.Break)
    wrong = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else wide
                forgets = all(isinstance(s, silent) or is_constant(s) for s in node.body)
                if node.type is None or (caught & wide and forgets):
                    wrong.append(f"{path}:{node.lineno}")
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                wide_here = wide & {ast.unparse(argument) for argument in node.args}
                wrong += [f"{path}:{node.lineno}"] if wide_here else []
    assert not wrong, "\n".join(wrong)


def is_constant(node: ast.stmt) -> bool:
    if isinstance(node, ast.Return):
        return node.value is None or isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_errors_are_named_as_errors() -> None:
    wrong = []
    for path in PACKAGE:
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base) for base in node.bases]
                is_error = any(base.endswith(("Error", "Exception")) for base in bases)
                if is_error and not node.name.endswith("Error"):
                    wrong.append(f"{path}:{node.lineno} {node.name}")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")
    wrong = [
        f"{path}:{number}"
        for path in PYTHON
        for number, line in enumerate((CHECKOUT / path).read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    wrong += [
        f"{path}:{node.lineno}"
        for path in PACKAGE
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Name) and node.id == "NotImplementedError"
    ]
    assert not wrong, "\n".join(wrong)


def test_functions_fit_a_screen_and_files_a_sitting() -> None:
    wrong = []
    for path, tree in TREES.items():
        lines = len((CHECKOUT / path).read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES:
            wrong.append(f"{path}: {lines} lines, at most {FILE_LINES}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    wrong.append(f"{path}:{node.lineno} {node.name}: {length} lines, at most {FUNCTION_LINES}")
    assert not wrong, "\n".join(wrong)


def test_only_one_place_reads_the_clock() -> None:
    wrong = []
    for path in PACKAGE:
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Attribute):
                clock = (ast.unparse(node.value).rpartition(".")[2], node.attr) in CLOCKS
                if clock and str(path) not in CLOCK_ROOM:
                    wrong.append(f"{path}:{node.lineno} {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def test_nothing_depends_on_the_hash_seed_or_on_unseeded_chance() -> None:
    wrong = []
    for path in PACKAGE:
        for node in ast.walk(TREES[path]):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            unseeded = called.endswith(("default_rng", "Random", "SeedSequence")) and not (node.args or node.keywords)
            shared = re.match(r"^(random|np\.random|numpy\.random)\.[a-z_]+$", called) and "default_rng" not in called
            if called == "hash" or ((unseeded or shared) and str(path) not in CHANCE_ROOM):
                wrong.append(f"{path}:{node.lineno} {called}")
    assert not wrong, "\n".join(wrong)


def test_no_seed_has_a_default() -> None:
    """`None` is none: a feed that does not shuffle needs no seed, and one that does refuses to go without."""
    wrong = []
    for path in PACKAGE:
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.FunctionDef):
                plain = [*node.args.posonlyargs, *node.args.args]
                pairs = list(zip(plain[len(plain) - len(node.args.defaults) :], node.args.defaults, strict=True))
                pairs += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d]
                given = [a for a, default in pairs if a.arg == "seed" and ast.unparse(default) != "None"]
                wrong += [f"{path}:{argument.lineno} {node.name}" for argument in given]
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "seed" and node.value is not None:
                wrong.append(f"{path}:{node.lineno}")
    assert not wrong, "\n".join(wrong)


def test_no_file_names_a_private_path_or_a_package_registry() -> None:
    private = re.compile(r"(?<![\w.])/(" + "|".join(("work", "root", "home", "Users")) + r")/\w|/tmp/" + r"w/")
    registry = re.compile(
        "|".join(("pypi" + r"\.org", "python" + "hosted", "--(extra-)?" + "index-url", "/simple" + "/"))
    )
    wrong = []
    for path in FILES:
        try:
            text = (CHECKOUT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if private.search(line) or registry.search(line):
                wrong.append(f"{path}:{number} {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def test_the_root_holds_no_module_that_an_install_would_ship() -> None:
    at_root = {path.name for path in PYTHON if len(path.parts) == 1}
    assert at_root == {"__init__.py", "__main__.py"}


def test_every_package_and_data_file_is_listed_for_the_wheel() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {module_of(path) for path in PACKAGE if path.name == "__init__.py"}
    assert set(project["packages"]) == found
    covered = {
        file.relative_to(CHECKOUT)
        for package, patterns in project["package-data"].items()
        for pattern in patterns
        for file in (CHECKOUT / Path(*package.split(".")[1:])).glob(pattern)
    }
    data = {path for path in FILES if path.parts[0] in ROOMS and path.suffix != ".py"}
    assert not data - covered, f"not in [tool.setuptools.package-data]: {sorted(map(str, data - covered))}"


def headings(page: str) -> list[str]:
    """The anchors of a page: its headings in small letters, without marks, with hyphens for spaces."""
    found = re.findall(r"(?m)^#+ (.*)$", page)
    return ["#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found]


def test_links_of_pages_lead_somewhere_and_decisions_have_numbers_of_their_own() -> None:
    pages = {page: (CHECKOUT / page).read_text(encoding="utf-8") for page in FILES if page.suffix == ".md"}
    nowhere = [
        f"{page}: {link}{anchor}"
        for page, text in pages.items()
        for link, anchor in re.findall(r"\]\((?!\w+:)([^)#]*)(#[^)]*)?\)", text)
        if not (to := (CHECKOUT / page.parent / link) if link else CHECKOUT / page).exists()
        or (anchor and anchor not in headings(to.read_text(encoding="utf-8")))
    ]
    assert nowhere == []
    numbers = [page.name[:4] for page in FILES if page.parts[:2] == ("docs", "adr")]
    assert len(numbers) == len(set(numbers))


class Loaded(NamedTuple):
    """What a fresh interpreter holds after a statement: top-level modules, those that were installed, and seconds."""

    tops: set[str]
    installed: set[str]
    seconds: float


def loaded_by(statement: str) -> Loaded:
    script = f"""
import json, sys, time
started = time.perf_counter()
{statement}
seconds = time.perf_counter() - started
tops = {{name.partition(".")[0] for name in list(sys.modules)}}
installed = [n for n in tops if "site-packages" in (getattr(sys.modules.get(n), "__file__", None) or "")]
print(json.dumps([sorted(tops), sorted(installed), seconds]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    tops, installed, seconds = json.loads(done.stdout)
    return Loaded(set(tops), set(installed), seconds)


def test_importing_reclake_loads_no_engine_and_takes_no_time() -> None:
    loaded = [loaded_by("import reclake") for _ in range(3)]
    assert not loaded[0].tops & (HEAVY | {"deltalake", "polars", "pyarrow", "numpy"})
    # The best of three: another process on the same cores is not this package's doing.
    assert min(each.seconds for each in loaded) < 0.5


@pytest.mark.parametrize("statement", ["import reclake.pipelines.feed", "import reclake; reclake.Feed"])
def test_a_trainer_needs_only_numpy_and_pyarrow(statement: str) -> None:
    feed = loaded_by(statement)
    assert feed.installed - loaded_by("import numpy, pyarrow").installed <= {"reclake"}
    assert not feed.tops & (HEAVY | {"deltalake", "polars", "fastavro", "click", "rich"})
