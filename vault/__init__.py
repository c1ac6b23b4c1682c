"""The vault: sealing what nobody may read in a dump, and the keys that it is sealed with.

The cellar of the house: it imports nothing of ours. How it is done, and why so, stands in
docs/encryption.md.
"""

from vault.keyring import (
    REMEMBERED,
    Forgotten,
    NoSuchKey,
    Ring,
    drop_young,
    forget,
    kept,
    open_text,
    refuse_wrong_masters,
    renew,
    rewrap,
    ring,
    ring_to_seal,
    seal_text,
    unlock,
)
from vault.masters import BadMaster, Locked, Masters, WrongMaster
from vault.sealing import CannotOpen, Place, VaultError, is_sealed, number_of

__all__ = [
    "REMEMBERED",
    "BadMaster",
    "CannotOpen",
    "Forgotten",
    "Locked",
    "Masters",
    "NoSuchKey",
    "Place",
    "Ring",
    "VaultError",
    "WrongMaster",
    "drop_young",
    "forget",
    "is_sealed",
    "kept",
    "number_of",
    "open_text",
    "refuse_wrong_masters",
    "renew",
    "rewrap",
    "ring",
    "ring_to_seal",
    "seal_text",
    "unlock",
]
