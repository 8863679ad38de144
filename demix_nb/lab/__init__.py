"""The laptop's world: text that is at hand, models small enough to train by the dozen, and mixtures learnt on the way.

Nothing outside knows of it: a run's study file names `lab.train` as what trains its models. The face is what
notebook 01 needs: `build_corpora`, `Setting`, `tasks`, `train_base`, `curves`, and `optimise` and
`beats_chance` to be shown. It is opened when asked for, so that whoever reads text or benchmarks alone waits for no
torch.
"""

from importlib import import_module

FACE = {
    "build_corpora": ("corpora", "build"),
    "Setting": ("jobs", "Setting"),
    "tasks": ("jobs", "tasks"),
    "train_base": ("train", "train_base"),
    "curves": ("train", "curves"),
    "optimise": ("loop", "optimise"),
    "beats_chance": ("benchmarks", "beats_chance"),
}
__all__ = list(FACE)


def __getattr__(name: str) -> object:
    if name not in FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = FACE[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)
