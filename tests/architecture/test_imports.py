"""Imports point one way only, and the hub's four short top-level names belong to nobody else."""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = ("hub", "streams", "connectors", "schemas")


def test_imports_point_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_other_distribution_owns_our_names() -> None:
    owners = packages_distributions()
    for name in NAMES:
        assert set(owners.get(name, ["integration-hub"])) == {"integration-hub"}, f"{name} is owned by {owners[name]}"


def test_our_names_are_imported_from_here() -> None:
    for name in NAMES:
        module = __import__(name)
        assert Path(str(module.__file__)).parent == ROOT / name
