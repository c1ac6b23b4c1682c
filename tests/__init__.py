"""Tests. All of them, and the processes that they start, have the same master key."""

import os

import vault
from vault import masters

MASTER = "dGhlIG1hc3RlciBrZXkgb2YgYWxsIHRoZSB0ZXN0czE="
vault.unlock(masters.read(MASTER))
os.environ.setdefault("AFTERGLOW_MASTER_KEY", MASTER)
