"""Find the data mixture for language-model pre-training before the training run is spent.

Train one component model per candidate dataset, average their weights into proxies of any mixture, score the proxies,
fit a predictor, search, and only then train the winner (DeMix, arXiv 2602.00747). `notebooks/` tells that story.
"""

__version__ = "0.1.0"
STATIC = "DEMIX_NB_STATIC"  # set in the environment while notebooks are executed with nobody at the controls
PLOTLY = "application/vnd.plotly.v1+json"  # the type under which a notebook stores a plotly figure
