"""The notebooks run from top to bottom as a reader would run them, and are kept clean."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]


def cells(path: Path) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = notebook["cells"]
    return found


def test_there_are_notebooks_on_each_subject():
    """Counting, the ledger, budgets and comparing, in the order in which to read them."""
    assert NAMES == [
        "01_counting_tokens",
        "02_the_ledger",
        "03_budgets",
        "04_comparing_models",
    ]


@pytest.mark.filterwarnings("ignore")  # of the notebook machinery, not of what it runs
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_runs_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In a kernel of its own, without keys, and what it draws and shows is really there."""
    nbclient = pytest.importorskip("nbclient", reason="the notebooks need nbclient to be run")
    for module in ("ipykernel", "matplotlib"):
        pytest.importorskip(module, reason=f"the notebooks need {module}")
    import nbformat

    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "COSTTRACE_DB", "COSTTRACE_BUDGET_USD"):
        monkeypatch.delenv(name, raising=False)
    root = str(path.parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    notebook = nbformat.read(path, as_version=4)
    here = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=here).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    complaints = [o["text"] for o in outputs if o.get("name") == "stderr"]
    assert [text for text in complaints if "Warning" in text or "Traceback" in text] == []
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert pictures == sum("plt.subplots" in "".join(cell["source"]) for cell in cells(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_kept_without_outputs(path: Path):
    """What a cell shows is made by running it, and no difference to look at in a review."""
    for cell in cells(path):
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_short(path: Path):
    """Two minutes of reading."""
    assert len(cells(path)) <= 25
    assert sum(len(cell["source"]) for cell in cells(path)) <= 150
