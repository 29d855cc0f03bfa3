"""`make test` runs every test there is: pytest looks into the folders that pytest.ini lists, and only there."""

import configparser

from helpers.process import ROOT

# Run by `make test-engines` and `make test-real-intent`, with what they install.
APART = {"engines", "real"}


def test_every_folder_with_tests_is_listed():
    ini = configparser.ConfigParser()
    ini.read(ROOT / "tests" / "pytest.ini")
    listed = set(ini["pytest"]["testpaths"].split())
    there = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/**/test_*.py")}
    there |= {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert there - APART - {"node"} - listed == set()
