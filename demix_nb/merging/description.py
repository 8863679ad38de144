"""A bank in few words: what travels to another process, which opens the same components once and merges on.

Weights stay where they are; a description holds folders, names and a content key, some kilobytes for a hundred
components. `live` gives a bank and a model to write merges into, from either of them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from demix_nb.merging.bank import Bank
from demix_nb.resident import RESIDENT, version_of, wait_for_version
from demix_nb.store import content_hash, folder_hash


@dataclass(frozen=True)
class Description:
    """Where a bank's components lie, and what tells that these are the ones.

    `key`: a hash of their names and contents. `home`: the folder that all lie under; `within`: component → its folder
    there, as is `base`. `version`: of the files (`resident.version_of`).
    """

    key: str
    home: Path
    within: Mapping[str, str]
    base: str | None
    version: str

    @classmethod
    def of(cls, bank: Bank) -> "Description":
        """Describe a bank; folders are those that all machines see at the same path."""
        folders = {name: folder.absolute() for name, folder in bank.directories.items()}
        base = bank.base.absolute() if bank.base else None
        all_of_them = [*folders.values(), *([base] if base else [])]
        home = Path(os.path.commonpath([folder.parent for folder in all_of_them]))
        parts = [[name, folder_hash(folder)] for name, folder in folders.items()]
        return cls(
            content_hash(parts, base and folder_hash(base)),
            home,
            {name: str(folder.relative_to(home)) for name, folder in folders.items()},
            base and str(base.relative_to(home)),
            version_of(all_of_them),
        )

    @property
    def names(self) -> list[str]:
        return list(self.within)

    def open(self, device: str) -> Bank:
        """Return the bank, opened once in a process; on a GPU its weights lie there as far as they fit.

        Raises Refusal where this machine does not see the folders as they were described.
        """
        return RESIDENT.get((self.key, device), partial(self._load, device))

    def _load(self, device: str) -> Bank:
        folders = {name: self.home / folder for name, folder in self.within.items()}
        base = None if self.base is None else self.home / self.base
        wait_for_version([*folders.values(), *([base] if base else [])], self.version)
        bank = Bank.load(folders, base=base, device=device)
        return bank if bank.stack is not None or device == "cpu" else Bank.load(folders, base=base)


def live(bank: Bank | Description, dtype: torch.dtype, device: str) -> tuple[Bank, PreTrainedModel]:
    """Return a bank and a live model in a dtype on a device, to write its merges into.

    A model of a described bank is kept for the next merge. A bank at hand serves the processor; for a GPU it is opened
    there once more, unless it is streamed.
    """
    if isinstance(bank, Bank) and (bank.stack is None or bank.stack.device == torch.device(device)):
        return bank, bank.model(dtype, device)
    described = Description.of(bank) if isinstance(bank, Bank) else bank
    opened = described.open(device)
    return opened, RESIDENT.get((described.key, dtype, device), partial(opened.model, dtype, device))
