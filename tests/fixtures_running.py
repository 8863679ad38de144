"""Two small notebooks that stand where the repository's do, for tests of whatever runs notebooks."""

import nbformat

from demix_nb import store
from demix_nb.running import runner

PARAMETERS = 'run_dir = "x"\nlayers = 2\nrate = 0.5\nname = ""\nshares = [1, 2]'
WRITE = """
from pathlib import Path
folder = Path(run_dir) / "tables"
folder.mkdir(parents=True, exist_ok=True)
(folder / "out.csv").write_text(str(layers))
log = Path(run_dir) / "log"
log.write_text((log.read_text() if log.exists() else "") + "first ")
"""
READ = """
from pathlib import Path
assert layers != 13, "unlucky"
log = Path(run_dir) / "log"
log.write_text(log.read_text() + "second ")
"""


def notebook(*cells, parameters=PARAMETERS, **facts):
    """Return a notebook with a `parameters` cell, further code cells, and what it says of itself."""
    made = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "demix_nb": facts}
    return nbformat.v4.new_notebook(cells=made + [nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)


def set_up(folder, monkeypatch, **written):
    """Put the notebooks `written` by name, and profiles, where the runner finds them."""
    (folder / "notebooks").mkdir(exist_ok=True)
    for name, content in written.items():
        nbformat.write(content, folder / "notebooks" / f"{name}.ipynb")
    (folder / "notebooks" / "profiles.yml").write_text("small: {layers: 3}\nlarge: {}\n")
    steps = runner.notebooks(folder / "notebooks")
    for name, value in {"NOTEBOOKS": folder / "notebooks", "RUNS": folder / "runs", "STEPS": steps}.items():
        monkeypatch.setattr(runner, name, value)
    monkeypatch.setattr(runner, "STORY", tuple(steps))
    monkeypatch.setattr(store, "PACKAGE", folder / "package")
    return folder


def two_steps(tmp_path, monkeypatch):
    """Return a folder with two notebooks, the second of which reads what the first writes."""
    second = notebook(READ, needs=["01_first"], unless=["name"])
    return set_up(tmp_path, monkeypatch, **{"01_first": notebook(WRITE), "02_second": second})
