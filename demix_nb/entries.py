"""Mixtures as YAML and JSON hold them: names with weights, an answer of ours, or a linear merge that mergekit is given.

mergekit's linear merge is a mixture of models, so that its weights are shares (it divides them by their sum). Its other
methods are none: what they make is no weighted mean of the models.

Source: mergekit (2403.13257), its YAML configuration.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demix_nb import sheets
from demix_nb.store import Refusal

PHASES = "phases"  # of a run, each with its `mixture` and the `part` of the run that it is for
WRITE = "write `merge_method: linear` with one `weight` per model"


def read(
    path: Path, folders: Mapping[str, Path] | None = None, *, trained: bool = False
) -> dict[str, Mapping[str, Any]]:
    """Return name → candidate → weight, as they are spelt.

    A file of one mixture (candidate → weight, `mixture:` alone or among other facts, or a merge) is named after the
    file, the mixtures of `phases:` by their numbers. `folders`: candidate → its component, by which models of a merge
    are known; others by their folder's last name. `trained`: the `recipe` beside a mixture counts, where there is one.
    Raises Refusal naming the entry for what is no mapping, and for a merge that is no mixture.
    """
    content = sheets.mapping(path)
    name = path.name.partition(".")[0]
    if not content:
        raise Refusal(f"{path.name} is empty; give at least one mixture")
    if "merge_method" in content:
        return {name: _merge(path, content, folders or {})}
    if (phases := phases_of(path, content)) is not None:
        return {f"phase {place}": _told(one, trained) for place, one in enumerate(phases, 1)}
    if _is_answer(content):
        return {name: _told(content, trained)}
    nested = [isinstance(value, Mapping) for value in content.values()]
    if any(nested) and not all(nested):
        odd = next(key for key, flag in zip(content, nested, strict=True) if not flag)
        raise Refusal(f"{path.name}: entry {odd!r} is not a mapping from candidates to weights")
    return content if any(nested) else {name: content}


def phases_of(path: Path, content: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """Return what a file says of each of its phases; None where it has none. Raises Refusal for one without mixture."""
    given = content.get(PHASES)
    if not isinstance(given, list):
        return None
    if not given or not all(isinstance(one, Mapping) and isinstance(one.get("mixture"), Mapping) for one in given):
        raise Refusal(f"{path.name}: a phase has no mixture; write `- {{part: 0.8, mixture: {{…}}}}` for each")
    return given


def _told(facts: Mapping[str, Any], trained: bool) -> Mapping[str, Any]:
    """The mixture of an answer, or the recipe that is really trained on."""
    recipe = facts.get("recipe")
    return recipe if trained and isinstance(recipe, Mapping) else facts["mixture"]


def _is_answer(content: Mapping[str, Any]) -> bool:
    """Whether one mixture stands under `mixture`, alone or beside what else is known of it (our `mixture.yaml`)."""
    if not isinstance(content.get("mixture"), Mapping):
        return False
    return len(content) == 1 or "recipe" in content or not all(isinstance(v, Mapping) for v in content.values())


def _merge(path: Path, content: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, str]:
    """Candidate → share of a linear merge, divided by their sum as mergekit does unless it is told not to."""
    if (method := content.get("merge_method")) != "linear":
        raise Refusal(f"{path.name}: merge_method {method!r} makes no weighted mean of its models; {WRITE}")
    if "slices" in content:
        raise Refusal(f"{path.name}: `slices` merge layer by layer, so there is no one mixture; {WRITE}")
    models = content.get("models")
    if not isinstance(models, list) or not models or not all(isinstance(each, Mapping) for each in models):
        raise Refusal(f"{path.name}: `models` is no list of models with weights; {WRITE}")
    common = _parameters(path, content)
    found: dict[str, float] = {}
    for each in models:
        name, weight = _candidate(path, each, folders), _weight(path, each, common)
        if name in found:
            raise Refusal(f"{path.name}: two models are candidate {name!r}; keep one, with the sum of their weights")
        found[name] = weight
    total = sum(found.values())
    if total <= 0:
        raise Refusal(f"{path.name}: the weights sum to {total:g}; give at least one model a weight above 0")
    scale = total if sheets.TRUTH.get(str(common.get("normalize", "true")).lower()) else 1.0
    return {name: repr(weight / scale) for name, weight in found.items()}


def _parameters(path: Path, given: Mapping[str, Any]) -> Mapping[str, Any]:
    found = given.get("parameters") or {}
    if not isinstance(found, Mapping):
        raise Refusal(f"{path.name}: `parameters` is {found!r}; write `parameters: {{weight: …}}`")
    return found


def _candidate(path: Path, given: Mapping[str, Any], folders: Mapping[str, Path]) -> str:
    model = given.get("model")
    if not isinstance(model, str) or not Path(model).name:
        raise Refusal(f"{path.name}: a model is {model!r}; write `model:` and its folder")
    places = {Path(model).resolve(), (path.parent / model).resolve()}
    return next((name for name, folder in folders.items() if Path(folder).resolve() in places), Path(model).name)


def _weight(path: Path, given: Mapping[str, Any], common: Mapping[str, Any]) -> float:
    weight = _parameters(path, given).get("weight", common.get("weight"))
    if isinstance(weight, list):
        raise Refusal(
            f"{path.name}: model {given['model']!r} has a weight per layer, so there is no one mixture; {WRITE}"
        )
    if (read := sheets.number(weight)) is None:
        raise Refusal(f"{path.name}: model {given['model']!r} has weight {weight!r}; write one finite number")
    return read
