"""The sections of a study file, each with its keys, their types and what is said of them to editors.

`studyfile` puts them together, reads and writes the file; here is only what may stand in it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

RANK = "rank"  # the objective where nothing else is said: DeMix's


def _at_home(path: Path, info: Any) -> Path:
    return (info.context or {}).get("home", Path()) / path.expanduser()


def _given(one: Any) -> Any:
    """A flow list may be written as one value."""
    return [one] if isinstance(one, str) else one


Place = Annotated[Path, AfterValidator(_at_home), Field(description="a path, relative to this file")]
Names = Annotated[list[str], BeforeValidator(_given), WithJsonSchema({"type": ["string", "array"]})]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=1)]
Window = Annotated[int, Field(ge=2)]


class Part(BaseModel):
    """A mapping of the file: keys that are not here are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Candidate(Part):
    """One candidate: its family, how many tokens of it there are, where its component lies."""

    family: str | None = Field(None, description="what it counts to; none: a family of its own")
    tokens: Amount | None = Field(None, description="tokens there are: natural shares and epochs are counted in them")
    document_tokens: Amount | None = Field(None, description="mean tokens of a document")
    component: Place | None = Field(None, description="checkpoint folder of its component")


class Task(Part):
    """What one entry of `tasks` says beside its name."""

    family: str | None = Field(None, description="what it counts to, in place of the task's own word")
    metric: Names = Field([], description="by name, one or several")
    filter: str | None = Field(None, description="an lm-eval filter by name; none: the first")
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    limit: Whole | None = Field(None, description="items; none: all")
    window: Window | None = Field(None, description="tokens a model sees at once, in place of the study's")
    target: bool = Field(True, description="whether it steers, or is reported only")
    higher_is_better: bool | None = Field(None, description="where the task or the table does not say it")
    unit: str | None = Field(None, description="of a table's scores")
    text: Place | dict[str, Place] | None = Field(None, description="of heldout: a folder, or candidate: file")


class Model(Part):
    """How models are opened, components and references alike."""

    dtype: str = Field("auto", description="float32, bfloat16, float16; auto: as the components were saved")
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps; auto: the accelerator, where there is one")
    batch_tokens: Whole = Field(2048, description="tokens of one forward pass")


class Measured(Part):
    """Mixtures and what models of them scored."""

    mixtures: Place = Field(description="a table, YAML or JSON of mixtures")
    scores: Place | None = Field(None, description="a table of scores, or a folder of lm-eval's results")


class Runs(Measured):
    """Runs that somebody has, and what their scores mean."""

    tasks: Place | None = Field(None, description="a task table: family, unit, higher_is_better")
    higher_is_better: bool | None = Field(None, description="of all scores whose direction nothing else says")


class References(Measured):
    """Really trained models: as checkpoints, or as the scores that they got."""

    checkpoints: Place | dict[str, Place] | None = Field(None, description="a folder of them, or mixture: folder")
    replicates: Place | dict[str, Place] | None = Field(
        None, description="the same with another seed: models or scores"
    )


class Group(Part):
    """A sum of shares within bounds."""

    members: Names = Field([], description="candidates; none: those of the family that the group is called by")
    lower: Share = 0.0
    upper: Share = 1.0


def _ends(one: Any) -> Any:
    """A group may be written as [least, largest]."""
    return {"lower": one[0], "upper": one[1]} if isinstance(one, list) and len(one) == 2 else one


class Bounds(Part):
    """The mixtures that are allowed."""

    lower: dict[str, Share] = Field({}, description="candidate: least share")
    upper: dict[str, Share] = Field({}, description="candidate: largest share")
    fixed: dict[str, Share] = Field({}, description="candidate: its share")
    groups: dict[str, Annotated[Group, BeforeValidator(_ends), WithJsonSchema({"type": ["array", "object"]})]] = Field(
        {}, description="family, or a name with members: [least, largest] sum of shares"
    )
    on: Literal["mixture", "recipe"] = Field("mixture", description="whose shares the above are")
    near: dict[str, Share] = Field({}, description="baseline, natural or uniform: the largest share that may differ")
    max_epochs: Amount | dict[str, Amount] | None = Field(
        None, description="how often a candidate may be repeated, one for all or each, with run.target_tokens"
    )


class Rail(Part):
    """How far a family or task may fall behind the baseline, and how sure that must be."""

    margin: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    probability: Annotated[float, Field(gt=0, lt=1)] = 0.9


def _margin(one: Any) -> Any:
    """A guardrail may be written as its margin alone."""
    return one if isinstance(one, dict) else {"margin": one}


Rails = dict[str, Annotated[Rail, BeforeValidator(_margin), WithJsonSchema({"type": ["number", "object"]})]]


class Run(Part):
    """What the mixture is for, and what it must beat."""

    target_tokens: Amount | None = Field(None, description="tokens of the run that the mixture is for")
    baseline: Literal["natural", "uniform"] | Place | dict[str, Share] | None = Field(
        None, description="natural, uniform, a file, or candidate: share"
    )
