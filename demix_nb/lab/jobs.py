"""What is to be trained: the shape of a model, one job, and the setting that all models of a run share.

A `Job` holds everything that decides a model, and its content key leaves out what merely names it: equal keys give
equal weights, whatever the folders are called. On the processor that is meant bit for bit, from one kind of processor
and one size of pieces (`rows_at_once`) to itself; models of a GPU, where many are trained stacked, are equal within
rounding, and their keys say what they were trained on. Ranges are checked when a job or a setting is made, so that a
wrong number is refused before any second of training. A checkpoint's folder holds its record, `training.json`.

Source: DeMix (arXiv 2602.00747) 2.2 and 3.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd
from transformers import Qwen3Config

from demix_nb.lab.corpora import Corpora
from demix_nb.lab.schedules import SCHEDULES
from demix_nb.mixtures import SUM_TOLERANCE, recipe
from demix_nb.options import check
from demix_nb.store import Refusal, content_hash
from demix_nb.studyfile import HELDOUT, NAME, StudyFile, parse, read, write

RECORD = "training.json"
CPU = "cpu"  # the place of training that keys do not name
TRAINING = (
    "architecture",
    "tokens",
    "learning_rate",
    "batch",
    "schedule",
    "warm",
    "bfloat16",
    "builtin",
    "log_with",
    "repetition",
)  # of it, in the study file
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

    def fits(self, found: "Architecture") -> bool:
        """Whether a model of shape `found` can be read so: the same sizes, and no more tokens at once than it has."""
        return replace(self, context=found.context) == found and self.context <= found.context

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
    `distinct`: of a candidate's text, how many tokens are read at all (`repetition`); of one not named, all.
    `log_with`: what follows the training (`tracking`), no part of what decides the model. `warm`: steps of warm-up, 0:
    a share of all. `bfloat16`: products are taken in it where that is faster than in
    float32; the weights stay float32.
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
    warm: int = 0
    bfloat16: bool = False
    mixture: Mapping[str, float] = field(default_factory=dict)
    distinct: Mapping[str, int] = field(default_factory=dict)
    log_with: str = ""

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name:
            raise Refusal(f"a model cannot be called {self.name!r}: its name becomes a folder; leave out slashes")
        shares = self.recipe.values()
        if not (abs(sum(shares) - 1) <= SUM_TOLERANCE and min(shares) >= 0):
            raise Refusal(f"recipe {dict(self.recipe)} is not a set of shares that sum to 1")
        check(schedule=self.schedule, tokens=self.tokens, learning_rate=self.learning_rate, batch=self.batch)
        check(warm=self.warm)

    @property
    def rows(self) -> int:
        """Sequences per step."""
        return max(self.batch // self.architecture.context, 1)

    @property
    def steps(self) -> int:
        return max(round(self.tokens / (self.rows * self.architecture.context)), 1)

    def key(self, corpora: Corpora, place: str = CPU) -> str:
        """Return the content key: equal keys give equal weights; candidates without a share have no part in it.

        `place`: the class of device that it is trained on, which belongs to the key where it is not the processor.
        """
        start = read_record(self.start)["key"] if self.start else None
        shares = {name: share for name, share in self.recipe.items() if share > 0}
        named = {"name": None, "kind": None, "mixture": None}
        decides = {"recipe": shares, "start": start, "corpora": corpora.behind(shares)}
        left = {"log_with"} | ({"distinct"} if not self.distinct else set())  # all text is what keys always meant
        facts = {name: fact for name, fact in asdict(self).items() if name not in left} | averaged(self.schedule)
        return content_hash(facts | named | decides | placed(place))


def placed(place: str) -> dict[str, str]:
    """Return what a content key says of the place of training: nothing of the processor."""
    return {} if place == CPU else {"place": place}


def averaged(schedule: str) -> dict[str, tuple[int, float]]:
    """Return what a content key says of the checkpoints that a schedule averages: nothing where it averages none."""
    row = SCHEDULES[schedule]
    return {"averaged": (row.checkpoints, row.every)} if row.checkpoints > 1 else {}


@dataclass(frozen=True)
class Setting:
    """What all continued models of a run share; notebook 01 decides it, the run's study file keeps it.

    `architecture` may be given by its fields' names. `beta`: share of the candidates in every recipe. `tokens`: the
    full budget of a component or reference. `batch`: tokens per step. `base`: folder of the model that all continue
    from. `warm`, `bfloat16` and `log_with`: as in `Job`. `builtin`: whether the candidates are the built-in ones, for
    which claims are made. `repetition`: "matched", or "" for what comes of the tokens (`repetition`), for a run of
    `target` tokens (None: the full budget). Raises Refusal for what is out of range.
    """

    architecture: Architecture | Mapping[str, int]  # becomes an Architecture
    general: str
    beta: float
    tokens: int
    learning_rate: float
    batch: int
    schedule: str
    base: str | Path  # becomes a Path
    warm: int = 0
    bfloat16: bool = False
    builtin: bool = False
    log_with: str = ""
    repetition: str = ""
    target: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.architecture, Mapping):
            object.__setattr__(self, "architecture", Architecture(**self.architecture))
        object.__setattr__(self, "base", Path(self.base))
        if not 0 <= self.beta <= 1:
            raise Refusal(f"beta is {self.beta}; it is the share of the candidates, between 0 and 1")
        amounts = {"tokens": self.tokens, "batch": self.batch, "warm": self.warm}
        check(schedule=self.schedule, learning_rate=self.learning_rate, log_with=self.log_with, **amounts)
        check(repetition=self.repetition)

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
            warm=self.warm,
            bfloat16=self.bfloat16,
            log_with=self.log_with,
        )

    @classmethod
    def of(cls, file: StudyFile) -> "Setting":
        """Return the setting in a study file that notebook 01 wrote; raises Refusal for one edited into nonsense."""
        try:
            told = dict(file.training)
            shape = {name: int(size) for name, size in told["architecture"].items()}
            whole = {name: int(told[name]) for name in ("tokens", "batch", "warm")}
            how = {"learning_rate": float(told["learning_rate"]), "schedule": told["schedule"]}
            how |= {name: told.get(name, "") for name in ("log_with", "repetition")}
            how |= {"target": file.run.target_tokens}
            how |= {name: str(told[name]).lower() == "true" for name in ("bfloat16", "builtin")}
            base, beta = Path(file.base), float(file.beta)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refusal(f"{NAME}, training, is damaged ({error!r}); run notebook 01 again") from error
        return cls(shape, file.general, beta, base=base, **whole, **how)

    @classmethod
    def read(cls, run: str | Path) -> "Setting":
        """Return the setting of a run's study file; raises Refusal as `of`, and when notebook 01 has not run."""
        return cls.of(read(Path(run) / NAME))

    def write(
        self,
        run: str | Path,
        families: Mapping[str, str],
        tokens: Mapping[str, float] | pd.Series,
        /,  # the file has a section `run`
        **sections: object,
    ) -> StudyFile:
        """Write the study file of a run: its candidates with their components, and `sections` as the file has them.

        `families` and `tokens`: candidate → family, tokens there are. Models as small as these are measured on the
        processor, where `sections` name no device. Raises Refusal as `studyfile.parse` does.
        """
        told = asdict(self)
        training = {"trainer": TRAINER} | {name: told[name] for name in TRAINING}
        candidates = {
            name: {"family": family, "tokens": float(tokens[name]), "component": f"models/component-{name}"}
            for name, family in families.items()
        }
        content = {"candidates": candidates, "base": str(self.base.resolve()), "general": self.general,
                   "beta": self.beta, "window": self.architecture.context, "training": training}  # fmt: skip
        model = {"device": "cpu"} | dict(sections.get("model", {}))
        file = parse(content | sections | {"model": model}, Path(run) / NAME)
        write(file, Path(run) / NAME)
        return file


def tasks(candidates: Sequence[str], suites: Sequence[str], *, steer: str, limit: int) -> list[dict[str, dict]]:
    """Return the entries of a study file's `tasks`: every suite, of which `steer` steers, by `limit` items a task.

    Held-out text is that of the run's corpora, all of it.
    """
    texts = {name: f"corpora/heldout/{name}.jsonl" for name in candidates}
    said = {name: {"text": texts} if name == HELDOUT else {"limit": limit} for name in suites}
    return [{name: how | {"target": name == steer}} for name, how in said.items()]


def read_record(directory: str | Path) -> dict:
    """Return a checkpoint's training record; raises Refusal when the folder is none of ours."""
    path = Path(directory) / RECORD
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise Refusal(f"{directory} has no {RECORD}; train it first (notebook 01)") from error
    except json.JSONDecodeError as error:
        raise Refusal(f"{path} is damaged; delete the folder and run again") from error


def finished(job: Job, key: str, directory: Path) -> dict | None:
    """Return the record, under the job's name and role, if the model of this content key lies in `directory`."""
    record = read_record(directory) if (directory / RECORD).is_file() else {}
    return record | {"model": job.name, "kind": job.kind} if record.get("key") == key else None


def like_base(setting: Setting, name: str, *, seed: int, start: Path | None = None, budget: float = 1.0) -> Job:
    """Return the job of the setting's base once more: its text and rate, `budget` of its tokens, the setting's shape.

    From random weights, or from the checkpoint `start`. Raises Refusal for a base without a record, and as `Job`.
    """
    told = read_record(setting.base)
    how = {"seed": seed, "start": start, "batch": setting.batch, "log_with": setting.log_with}
    tokens = round(budget * told["tokens"])
    return Job(name, "base", told["recipe"], tokens, told["learning_rate"], setting.architecture, **how)
