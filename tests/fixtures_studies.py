"""Studies of what somebody else has, made on the spot: checkpoints, their own tokenizer and tasks, and references."""

import json
from pathlib import Path

import fixtures_models as families
import numpy as np
import torch
import yaml

from demix_nb.region import Region

CANDIDATES = {"web": "general", "books": "general", "algebra": "math", "proofs": "math", "python": "code",
              "shell": "code", "papers": "general"}  # fmt: skip


def checkpoints(folder: Path, *, references: bool = False) -> Path:
    """Write a study file of seven components and their base, two tasks and held-out text; return its path.

    `references`: adds eight of them as models, four with a second seed.
    """
    names = list(CANDIDATES)
    made, base = families.family(folder / "ckpt", families.ARCHITECTURES["qwen3"](), names=names, drift=0.02)
    rng = np.random.default_rng(3)
    (folder / "text").mkdir()
    for name in names:
        words = [[f"w{number}" for number in rng.integers(3, 60, 12)] for _ in range(6)]
        lines = [json.dumps({"text": " ".join(some)}) for some in words]
        (folder / "text" / f"{name}.jsonl").write_text("\n".join(lines))
    asked = families.own_tasks(folder / "tasks", [{"text": "w5 w9 w4", "word": "w5"}, {"text": "w7 w3", "word": "w9"}])
    content = {
        "candidates": {name: {"family": family, "component": f"ckpt/{name}"} for name, family in CANDIDATES.items()},
        "base": "ckpt/base",
        "tasks": [{"heldout": "text"}, {asked[0]: {"family": "writing", "target": False}},
                  {asked[1]: {"family": "code"}}],
        "include_path": "tasks", "window": 16,
    }  # fmt: skip
    if references:
        content["references"] = trained(folder, made, base, rng)
    (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "study.yaml"


def trained(folder: Path, made: dict[str, Path], base: Path, rng: np.random.Generator) -> dict[str, str]:
    """Write eight references, as a merge with a little noise, and a second seed of four of them."""
    from demix_nb.merging import Bank

    bank, model = Bank.load(made, base=base), None
    mixtures = Region(list(made)).draw(8, rng=rng, prefix="ref")
    mixtures.to_csv(folder / "refs.csv", index_label="mixture")
    for place, rows in (("refs", mixtures), ("refs_seed2", mixtures.iloc[:4])):
        for name, row in rows.iterrows():
            model = bank.model()
            bank.write(model, row)
            with torch.no_grad():
                for tensor in model.parameters():
                    tensor.add_(0.002 * torch.from_numpy(rng.standard_normal(tensor.shape)).float())
            families.save_model(model, folder / place / name)
    return {"mixtures": "refs.csv", "checkpoints": "refs", "replicates": "refs_seed2"}


def changed(path: Path, **sections: object) -> Path:
    """Return another study file beside one, in a folder of its own, with other sections; None takes one away."""
    content = yaml.safe_load(path.read_text()) | sections
    other = path.with_name(f"study_{len([*path.parent.glob('study*.yaml')])}.yaml")
    other.write_text(
        yaml.safe_dump({key: value for key, value in content.items() if value is not None}, sort_keys=False)
    )
    return other
