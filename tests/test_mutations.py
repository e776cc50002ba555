"""The table of deliberate mistakes stays true to the code; the runner sees a failure."""

from pathlib import Path

import mutations
import pytest
from mutation_table import CHECKS, MUTATIONS, Checks

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.method}-{m.kind}")
def test_each_text_occurs_once_and_the_result_is_python(mutation):
    text = (ROOT / "maskjax" / mutation.file).read_text()
    assert text.count(mutation.old) == 1
    assert mutation.old != mutation.new
    compile(text.replace(mutation.old, mutation.new), mutation.file, "exec")


def test_each_method_has_five_kinds_and_its_checks_exist():
    for method, checks in CHECKS.items():
        kinds = [m.kind for m in MUTATIONS if m.method == method]
        assert len(kinds) == len(set(kinds)) >= 5
        assert all((ROOT / "tests" / name).is_file() for name in checks.tests)


def test_the_copy_is_what_is_imported_and_the_first_failure_is_named(tmp_path):
    project = tmp_path / "project"
    (project / "maskjax").mkdir(parents=True)
    (project / "maskjax/__init__.py").write_text("VALUE = 1\n")
    (project / "tests").mkdir()
    test = "from maskjax import VALUE\n\ndef test_it():\n    assert VALUE == 1\n"
    (project / "tests/test_one.py").write_text(test)
    names = mutations.checks_of(Checks((), ("test_one.py",)))
    assert mutations.first_failure(project, names) is None
    (project / "maskjax/__init__.py").write_text("VALUE = 2\n")
    assert mutations.first_failure(project, names) == ("tests/test_one.py::test_it", "")
    (project / "maskjax/__init__.py").write_text("VALUE = \n")
    with pytest.raises(RuntimeError, match="SyntaxError"):
        mutations.first_failure(project, names)
