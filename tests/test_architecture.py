"""The layers hold: imports go down only, and nothing is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import costtrace

ROOT = Path(costtrace.__file__).parent
ROWS = {  # a package may import those of a lower row, and itself
    "caller": -1,
    "forklock": -1,
    "lazy": -1,
    "money": 0,
    "usage": 0,
    "instant": 0,
    "records": -1,
    "exceptions": 1,
    "entry": 1,
    "pricing": 2,
    "tokens": 2,
    "providers": 2,
    "stores": 3,
    "reports": 3,
    "sinks": 3,
    "accounting": 4,
    "scopes": 5,
    "instrumentation": 6,
    "api": 7,
    "testing": 8,
    "cli": 9,
    "__init__": 10,
    "__main__": 10,
}
MAY_IMPORT = {  # third-party package -> the packages that may
    "wrapt": {"api", "instrumentation"},
    "tiktoken": {"tokens"},
    "pytest": {"testing"},
}
BY_NAME_ONLY = {"openai", "anthropic"}
FILES = sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = str(node.module)
            if module == "costtrace":
                yield from ((f"costtrace.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path):
    """To a lower row, or within the package; the top level's lazy names excepted."""
    here = package_of(path)
    for module, line in imports(path):
        parts = module.split(".")
        if parts[0] != "costtrace" or len(parts) == 1 or here in ("__init__", "__main__"):
            continue
        there = parts[1]
        if there not in ROWS:  # a public name of the top level, or its version
            assert ROWS[here] >= 8, f"{path}:{line} imports {module} from the top"
            continue
        assert there == here or ROWS[there] < ROWS[here], f"{path}:{line} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_four_packages_are_imported(path: Path):
    """Beside the standard library: each where it belongs, the SDKs never by statement."""
    here = package_of(path)
    for module, line in imports(path):
        top = module.split(".")[0]
        assert top != "contextvars", f"{path}:{line}"
        assert top not in BY_NAME_ONLY, f"{path}:{line} imports {top}: SDKs are found by name"
        if top == "costtrace" or top in sys.stdlib_module_names:
            if top == "sqlite3":
                assert here == "stores", f"{path}:{line} imports sqlite3"
            continue
        assert here in MAY_IMPORT.get(top, set()), f"{path}:{line} imports {top}"


def loaded(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running some code."""
    program = f"{code}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


HEAVY = {"wrapt", "tiktoken", "openai", "anthropic", "sqlite3", "asyncio", "http", "contextvars"}


def test_importing_the_package_loads_next_to_nothing():
    """Nor does `import *` of what a tracked module needs before it is used."""
    assert not loaded("import costtrace") & HEAVY
    used = loaded("from costtrace import CostLedger, budget, tracked, configure\nCostLedger()")
    assert not used & (HEAVY - {"http"})


def test_every_public_name_can_be_imported():
    """What `__all__` names is there, and what is not there says so."""
    for name in costtrace.__all__:
        assert getattr(costtrace, name) is not None
    assert set(costtrace.__all__) <= set(dir(costtrace))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = costtrace.nonsense  # type: ignore[attr-defined]
