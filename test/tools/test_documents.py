"""What the README says is what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

from egopose_ros.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_table_of_parameters_is_that_of_the_configuration():
    location = importlib.util.spec_from_file_location("parameter_table", ROOT / "tools/parameter_table.py")
    tool = importlib.util.module_from_spec(location)
    location.loader.exec_module(tool)
    text = (ROOT / "README.md").read_text()
    assert tool.replaced(text) == text, "run tools/parameter_table.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(document):
    for name in re.findall(r"\begopose ([a-z]+)\b", "\n".join(re.findall(r"`[^`]+`", document.read_text()))):
        assert name in COMMANDS, name
