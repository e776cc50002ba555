"""The list of skipped examples: each once, over all processes, kept by a run that goes on."""

from maskjax.observe.bad_examples import NAME, BadExamples, read_bad_examples


def entry(name, position=0):
    return {"id": name, "position": position, "reason": f"cannot decode {name}"}


def test_an_example_is_listed_once_with_its_first_position(tmp_path):
    bad = BadExamples(tmp_path)
    assert bad.add([entry("a", 3), entry("b", 5), entry("a", 9)]) == [entry("a", 3), entry("b", 5)]
    assert bad.add([entry("a", 12), entry("é", 14)]) == [entry("é", 14)]
    assert bad.add([]) == []
    bad.merge()
    assert read_bad_examples(bad.path) == [entry("a", 3), entry("b", 5), entry("é", 14)]


def test_processes_are_put_together_by_position(tmp_path):
    first, second = BadExamples(tmp_path, 0), BadExamples(tmp_path, 1)
    first.add([entry("a", 8), entry("c", 20)])
    second.add([entry("a", 4), entry("b", 12)])
    first.merge()
    assert read_bad_examples(tmp_path / NAME) == [entry("a", 4), entry("b", 12), entry("c", 20)]


def test_a_run_that_goes_on_keeps_its_list_with_any_number_of_processes(tmp_path):
    for index in range(3):
        BadExamples(tmp_path, index).add([entry(f"of {index}", index)])
    resumed = BadExamples(tmp_path, 0, keep=True)
    assert resumed.add([entry("of 0", 50), entry("new", 60)]) == [entry("new", 60)]
    resumed.merge()
    names = [one["id"] for one in read_bad_examples(resumed.path)]
    assert names == ["of 0", "of 1", "of 2", "new"]


def test_a_new_run_begins_with_none(tmp_path):
    for index in range(2):
        BadExamples(tmp_path, index).add([entry("old")])
    started = BadExamples(tmp_path, 0)
    started.merge()
    assert read_bad_examples(started.path) == []
    assert not started.path.exists()


def test_no_file_without_bad_examples(tmp_path):
    BadExamples(tmp_path).merge()
    assert list(tmp_path.iterdir()) == []
