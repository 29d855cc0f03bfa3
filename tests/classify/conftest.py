"""Folders trained once for all tests of this folder; no test writes into them."""

import pytest

from classify.kit import INTENTS, TINY, train, write


@pytest.fixture(scope="session")
def bank(tmp_path_factory):
    """The bank intents, trained with both tiers, and what was said meanwhile."""
    out = tmp_path_factory.mktemp("trained") / "bank"
    return out, train(INTENTS, out)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Twenty rows of two labels, n-grams only, and what was said meanwhile."""
    folder = tmp_path_factory.mktemp("tiny")
    out = folder / "tiny"
    return out, train(write(folder / "rows.jsonl", TINY), out, "--no-encoder")
