"""The house's rules, read from the source: which module may import which, and what none may do."""

import ast
import functools
import graphlib
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "rl_reasoning"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# A module or folder imports from floors below its own, or from its own floor as long as there is no circle.
FLOORS = {
    "types": 0, "arrays": 0, "require": 0, "without_tpu": 0, "config": 0, "keys": 0, "gguf_file": 0, "json_file": 0,
    "losses": 1, "advantages": 1, "allocation": 1, "optim": 1, "tokenizers": 1, "rules": 1,
    "models": 2, "parallel": 2, "tasks": 2,
    "sampling": 3, "data": 3,
    "algorithms": 4, "options": 4, "rollouts": 4, "training": 4, "export": 4,
    "reporting": 5, "evaluation": 5, "plan": 5, "analysis": 5, "latent": 5, "loop": 5, "edge": 5,
    "doctor": 5,
}
ARRAYS_ONLY = {"flax", "optax", "ml_collections", "rl_reasoning.models", "rl_reasoning.config", "rl_reasoning.types",
               "rl_reasoning.tokenizers", "rl_reasoning.optim"}
NEVER = {
    "losses": ARRAYS_ONLY | {"rl_reasoning.advantages"},
    "advantages": ARRAYS_ONLY | {"rl_reasoning.losses"},
    "allocation": ARRAYS_ONLY | {"rl_reasoning.losses", "jax"},
    "sampling": {"rl_reasoning.losses", "rl_reasoning.advantages", "rl_reasoning.tasks", "rl_reasoning.training"},
    "training": {"rl_reasoning.sampling", "rl_reasoning.tasks"},
    "tasks": {"jax", "flax", "optax"},
    "tokenizers": {"jax", "flax", "optax"},
    "models": {"rl_reasoning.losses", "rl_reasoning.advantages", "rl_reasoning.tasks", "rl_reasoning.tokenizers"},
}
HEAVY = {"jax", "jaxlib", "flax", "optax", "orbax", "grain", "tensorflow", "torch", "transformers", "matplotlib",
         "sympy"}


def unit(path):
    """The module or folder right below the package that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree):
    """Dotted names that a module imports, and for `from a import b` both `a` and `a.b`, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@functools.cache
def parse(path):
    return ast.parse(path.read_text())


def units_imported(path):
    """The units of the package that a file imports, its own aside."""
    names = {name.split(".")[1] for name, _ in imported(parse(path)) if name.startswith("rl_reasoning.")}
    return (names & set(FLOORS)) - {unit(path)}


def unsafe(tree):
    """T59: what no module of the package may do, as (line, what)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None)
            if name in {"eval", "exec", "print", "breakpoint", "__import__"}:
                yield node.lineno, f"{name}("
            if ast.unparse(node.func) in {"yaml.load", "os.system", "torch.load"}:
                yield node.lineno, f"{ast.unparse(node.func)}("
            yield from ((node.lineno, f"{keyword.arg}=") for keyword in node.keywords
                        if keyword.arg in {"shell", "allow_pickle", "trust_remote_code"}
                        and ast.unparse(keyword.value) != "False")
        elif isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            if node.type is None or (broad and all(isinstance(step, ast.Pass | ast.Continue) for step in node.body)):
                yield node.lineno, "an except that is bare or swallows everything"
    for name, line in imported(tree):
        if name.split(".")[0] in {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}:
            yield line, f"import {name}"


def test_every_module_has_a_floor():
    missing = {unit(path) for path in SOURCES} - {"__init__"} - set(FLOORS)
    assert not missing, f"give {missing} a floor in tests/test_house.py"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    own = FLOORS.get(unit(path), 0)
    above = {name: FLOORS[name] for name in units_imported(path) if FLOORS[name] > own}
    assert not above, f"floor {own} imports from above: {above}"


def test_there_is_no_circle():
    graph = {}
    for path in SOURCES:
        graph.setdefault(unit(path), set()).update(units_imported(path))
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("folder", NEVER)
def test_what_a_folder_never_imports(folder):
    found = [f"{path.relative_to(ROOT)}:{line} imports {name}" for path in SOURCES if unit(path) == folder
             for name, line in imported(parse(path)) for banned in NEVER[folder]
             if name == banned or name.startswith(banned + ".")]
    assert not found


def test_t59_nothing_unsafe_in_the_package():
    found = [f"{path.relative_to(ROOT)}:{line}: {what}" for path in SOURCES for line, what in unsafe(parse(path))]
    assert not found


@pytest.mark.parametrize("line", [
    "import pickle", "from pickle import loads", "import cloudpickle as c", "eval(text)", "exec(text)", "print(1)",
    "run(command, shell=True)", "numpy.load(path, allow_pickle=True)", "yaml.load(text)", "os.system(text)",
    "try:\n    f()\nexcept:\n    g()", "try:\n    f()\nexcept Exception:\n    pass",
])
def test_t59_the_gate_sees(line):
    assert list(unsafe(ast.parse(line)))


@pytest.mark.parametrize("line", [
    "module.eval(x)", "'no pickle, no eval(x)'", "run(command, shell=False)", "yaml.safe_load(text)",
    "try:\n    f()\nexcept OSError:\n    pass", "pprint(1)",
])
def test_t59_the_gate_lets_pass(line):
    assert not list(unsafe(ast.parse(line)))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_fit_on_a_screen(path):
    long = [f"{node.name}: {size} lines" for node in ast.walk(parse(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (size := node.end_lineno - node.lineno + 1) > 80]
    assert not long


def public(node):
    """Public classes and functions of a module and of its public classes; not what a function has inside."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not inner.name.startswith("_"):
            yield inner
            yield from public(inner) if isinstance(inner, ast.ClassDef) else ()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_public_name_is_documented(path):
    tree = parse(path)
    bare = [f"{node.lineno}: {node.name}" for node in public(tree) if not ast.get_docstring(node)]
    assert not bare
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("modules", [
    "rl_reasoning", "rl_reasoning.edge, rl_reasoning.config, rl_reasoning.types",
    "rl_reasoning.tasks, rl_reasoning.tasks.countdown, rl_reasoning.tokenizers",
])
def test_t58_what_is_light_stays_light(modules):
    """Imports no framework, directly or through others, and costs less than 1.5 s of processor time."""
    program = f"import sys, time\nimport {modules}\nprint(time.process_time(), *sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
                           capture_output=True, text=True, timeout=60, check=True)
    seconds, *loaded = ended.stdout.split()
    assert not HEAVY & set(loaded)
    assert float(seconds) < 1.5
