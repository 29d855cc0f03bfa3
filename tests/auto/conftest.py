"""A folder of learned outcomes, trained once."""

import pytest

from auto.kit import train


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    """Trained on made-up outcomes: small does all but calculus."""
    return train(tmp_path_factory.mktemp("outcomes"))
