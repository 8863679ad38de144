"""What is to be trained: the shape of a model, one job, and the setting that all models of a run share.

A `Job` holds everything that decides a model, and its content key leaves out what merely names it: equal keys give
equal weights, whatever the folders are called. Ranges are checked when a job or a setting is made, so that a wrong
number is refused before any second of training. A checkpoint's folder holds its record, `training.json`.

Source: DeMix (arXiv 2602.00747) 2.2 and 3.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from transformers import Qwen3Config

from demix_nb.mixtures import SUM_TOLERANCE, recipe
from demix_nb.options import check
from demix_nb.store import Refusal, atomic, content_hash, read_setting

RECORD = "training.json"
TRAINER = "demix_nb.lab.train"  # the module whose `train_design` trains what a setting describes


@dataclass(frozen=True)
class Architecture:
    """A scaled-down Qwen3; sizes in units of the hidden state, `context` in tokens. Raises Refusal for odd sizes."""

    hidden: int = 64
    layers: int = 2
    head_dim: int = 32
    context: int = 256

    def __post_init__(self) -> None:
        check(**asdict(self))

    @classmethod
    def of(cls, checkpoint: str | Path) -> "Architecture":
        """Return the shape of a checkpoint of ours; raises Refusal for a folder without one."""
        try:
            config = json.loads((Path(checkpoint) / "config.json").read_text())
        except FileNotFoundError as error:
            raise Refusal(f"{checkpoint} holds no model; train it first (notebook 01)") from error
        names = ("hidden_size", "num_hidden_layers", "head_dim", "max_position_embeddings")
        return cls(*(config[name] for name in names))

    def config(self, vocab_size: int, end_of_text: int) -> Qwen3Config:
        """Return the configuration of a model of this shape."""
        heads = max(self.hidden // self.head_dim, 1)
        return Qwen3Config(
            vocab_size=vocab_size,
            hidden_size=self.hidden,
            intermediate_size=3 * self.hidden,  # ratio of Qwen3-1.7B
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=max(heads // 2, 1),
            head_dim=self.head_dim,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_of_text),
        )


@dataclass(frozen=True)
class Job:
    """Everything that decides a model: its recipe (token shares), tokens, peak learning rate, seed and start.

    `name` is the model's folder, `kind` its role (base, component, reference, …), `mixture` the α behind the recipe.
    Raises Refusal for a recipe that is no set of shares, for amounts that are not positive and an unknown schedule.
    """

    name: str
    kind: str
    recipe: Mapping[str, float]
    tokens: int
    learning_rate: float
    architecture: Architecture
    seed: int = 0
    start: Path | None = None
    batch: int = 2048  # tokens per step
    schedule: str = "cosine"
    mixture: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name:
            raise Refusal(f"a model cannot be called {self.name!r}: its name becomes a folder; leave out slashes")
        shares = self.recipe.values()
        if not (abs(sum(shares) - 1) <= SUM_TOLERANCE and min(shares) >= 0):
            raise Refusal(f"recipe {dict(self.recipe)} is not a set of shares that sum to 1")
        check(schedule=self.schedule, tokens=self.tokens, learning_rate=self.learning_rate, batch=self.batch)

    @property
    def rows(self) -> int:
        """Sequences per step."""
        return max(self.batch // self.architecture.context, 1)

    @property
    def steps(self) -> int:
        return max(round(self.tokens / (self.rows * self.architecture.context)), 1)

    def key(self, corpora_key: str) -> str:
        """Return the content key: equal keys give equal weights."""
        start = read_record(self.start)["key"] if self.start else None
        described = asdict(self) | {"name": None, "kind": None, "mixture": None, "start": start, "corpora": corpora_key}
        return content_hash(described)


@dataclass(frozen=True)
class Setting:
    """What all continued models of a run share; notebook 01 decides it, the run's `setting.json` keeps it.

    `architecture` may be given by its fields' names. `beta`: share of the candidates in every recipe. `tokens`: the
    full budget of a component or reference. `batch`: tokens per step. `base`: folder of the model that all continue
    from. `suites`: what every model is measured on; `limit`: items per benchmark. `builtin`: whether the candidates
    are the built-in ones, for which claims are made. Raises Refusal for what is out of range.
    """

    architecture: Architecture | Mapping[str, int]  # becomes an Architecture
    general: str
    beta: float
    tokens: int
    learning_rate: float
    batch: int
    schedule: str
    base: str | Path  # becomes a Path
    suites: Sequence[str]  # becomes a tuple
    limit: int
    builtin: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.architecture, Mapping):
            object.__setattr__(self, "architecture", Architecture(**self.architecture))
        object.__setattr__(self, "base", Path(self.base))
        object.__setattr__(self, "suites", tuple(self.suites))
        if not 0 <= self.beta <= 1:
            raise Refusal(f"beta is {self.beta}; it is the share of the candidates, between 0 and 1")
        amounts = {"tokens": self.tokens, "batch": self.batch, "limit": self.limit}
        check(schedule=self.schedule, learning_rate=self.learning_rate, **amounts)

    def job(self, name: str, kind: str, mixture: pd.Series, *, seed: int = 0, budget: float = 1.0) -> Job:
        """Return the job that continues the base on the mixture's recipe for `budget` of the tokens (1 = all)."""
        check(budget=budget)
        return Job(
            name=name,
            kind=kind,
            recipe=recipe(mixture, self.general, self.beta).to_dict(),
            mixture=mixture.to_dict(),
            tokens=round(self.tokens * budget),
            learning_rate=self.learning_rate,
            architecture=self.architecture,
            seed=seed,
            start=self.base,
            batch=self.batch,
            schedule=self.schedule,
        )

    def write(self, path: str | Path) -> None:
        """Store the setting as JSON, atomically; a base beside it by its relative path, so that a run can be moved."""
        base, home = self.base.resolve(), Path(path).resolve().parent
        stored = asdict(self) | {"base": str(base.relative_to(home) if base.is_relative_to(home) else base)}
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(stored | {"trainer": TRAINER}, indent=1))

    @classmethod
    def read(cls, path: str | Path) -> "Setting":
        """Read a setting; raises Refusal when notebook 01 has not run, and for a file that was edited into nonsense."""
        return read_setting(path, lambda stored: cls(**{name: stored[name] for name in stored if name != "trainer"}))


def read_record(directory: str | Path) -> dict:
    """Return a checkpoint's training record; raises Refusal when the folder is none of ours."""
    path = Path(directory) / RECORD
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise Refusal(f"{directory} has no {RECORD}; train it first (notebook 01)") from error
    except json.JSONDecodeError as error:
        raise Refusal(f"{path} is damaged; delete the folder and run again") from error
