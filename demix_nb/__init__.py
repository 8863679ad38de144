"""Find the data mixture for language-model pre-training before the training run is spent.

Train one component model per candidate dataset, average their weights into proxies of any mixture, score the proxies,
fit a predictor, search, and only then train the winner (DeMix, arXiv 2602.00747). `notebooks/` tells that story.
"""

from pathlib import Path

__version__ = "0.1.0"

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "notebooks").is_dir()  # from a wheel, which carries them inside; else this is a checkout
ROOT = Path.cwd() if INSTALLED else PACKAGE.parent  # what runs write goes under here: data/runs, figures
NOTEBOOKS = (PACKAGE if INSTALLED else ROOT) / "notebooks"
DATA = (PACKAGE if INSTALLED else ROOT) / "data"  # what comes with the package: tasks, published, results
RUNS = ROOT / "data" / "runs"

FOUND = "DEMIX_NB_FOUND"  # set in the environment by `demix-nb lab`: the folder of the run that is looked at
STATIC = "DEMIX_NB_STATIC"  # set in the environment while notebooks are executed with nobody at the controls
PROGRESS = "DEMIX_NB_PROGRESS"  # likewise: the file to which a notebook's loops write how far they are
PLOTLY = "application/vnd.plotly.v1+json"  # the type under which a notebook stores a plotly figure
