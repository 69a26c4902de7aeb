"""The notebooks: without outputs, and each runs from top to bottom with small settings put in by one cell."""

import pathlib

import nbclient
import nbformat
import pytest

from tests.models import hf_cases
from tests.tokenizers import folder_fixture

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "experiments" / "colab").glob("*.ipynb"))
EVALUATION = {"problems": 4, "samples": 8, "bootstrap": 50}
SMALL = {
    "1_negative_reinforcement": 'PRESET = "smoke_compare"\nALGORITHMS = ("base", "psr", "nsr")\n'
                                'SETTINGS = {"rl": {"steps": 2}, "evaluation": EVALUATION}',
    "2_your_model_and_verifier": 'MODEL, PRESET, SETTINGS = FOLDER, "smoke", {}',
    "3_write_an_objective": 'PRESET = "smoke"\nSETTINGS = {"rl": {"steps": 2}, "evaluation": EVALUATION}',
    "4_evaluate_and_browse": 'SETTINGS = {"evaluation": EVALUATION}',
}


def read(path):
    return nbformat.read(path, as_version=4)


def test_every_notebook_is_listed():
    assert [path.stem for path in NOTEBOOKS] == sorted(SMALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_valid_and_have_no_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert sum("parameters" in cell.metadata.get("tags", ()) for cell in cells) == 1
    assert "pip" in cells[0].source


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(path, tmp_path, monkeypatch):
    model = folder_fixture.write(tmp_path / "model")
    hf_cases.write(model, {**hf_cases.CASES["qwen2"], "vocab_size": 512, "max_position_embeddings": 2048,
                           "num_hidden_layers": 1})
    notebook = read(path)
    [place] = [number for number, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
    small = (f"EVALUATION, FOLDER, WORKDIR = {EVALUATION}, {str(model)!r}, {str(tmp_path / 'runs')!r}\n"
             f"{SMALL[path.stem]}")
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(small))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # what installing and changing to the clone do elsewhere
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not any(output.output_type == "error" for output in shown)
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert "image/png" in kinds or path.stem[0] in "24"
    assert path.stem[0] != "4" or any("srcdoc" in output.get("data", {}).get("text/html", "") for output in shown)
