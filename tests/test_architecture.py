"""The structure that README.md and the design promise."""

import ast
import re
from pathlib import Path

import pytest
from conftest import PROJECT

MODULES = sorted(path for path in (PROJECT / "sentiflow").glob("*.py") if path.stem != "__init__")


def first_line(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_readme_describes_each_module_by_its_first_line(path):
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", (PROJECT / "README.md").read_text(), re.M))
    assert rows[path.stem] == first_line(path)


def test_the_readme_describes_no_module_that_is_not_there():
    rows = re.findall(r"^\| `(\w+)` \| .+ \|$", (PROJECT / "README.md").read_text(), re.M)
    assert sorted(rows) == [path.stem for path in MODULES]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_each_module_has_a_test_file_or_is_tested_through_one(path):
    through = {
        "corpus": "test_pipeline", "inference": "test_recurrence", "model_sources": "test_scoring",
        "trained_package": "test_train_task",
        "table_files": "test_scoring", "scored_corpus": "test_scoring", "growth": "test_scoring",
        "schema": "test_pipeline", "evaluated_rows": "test_evaluation",
        "download_cli": "test_download", "cli_options": "test_cli", "poolings": "test_models",
        "ngrams": "test_models", "model_sections": "test_settings",
        "sections": "test_settings", "progress": "test_cli", "errors": "test_cli",
        "exits": "test_cli", "questioning": "test_evaluation",
        "passes": "test_resume", "part_counts": "test_preparation",
        "prepared_parts": "test_preparation", "sweep_trials": "test_sweep",
        "sweep_results": "test_sweep", "sweep_space": "test_search_space",
        "setting_types": "test_settings", "served_model": "test_registry",
        "mlflow_model": "test_registry", "model_uris": "test_registry",
        "seen_rows": "test_compared_rows", "changed_settings": "test_comparison",
        "differences": "test_comparison", "comparison_text": "test_comparison",
        "mlflow_sender": "test_outbox",
        "unsent_files": "test_outbox", "transfer": "test_download", "archives": "test_download",
        "unpacking": "test_download", "doctor_cli": "test_doctor",
        "torch_probe": "test_node_probes", "software_checks": "test_node_checks",
        "examined_places": "test_doctor",
    }  # fmt: skip
    assert (PROJECT / "tests" / f"{through.get(path.stem, f'test_{path.stem}')}.py").exists()
