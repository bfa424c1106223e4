"""What a browser gets of a long list of runs when it asks again."""

import pytest
from safelight.preview.change_feed import MAX_REMEMBERED, ChangeFeed


def run(name, **facts):
    return {"id": name} | facts


def filled(*names):
    feed = ChangeFeed()
    feed.update({name: run(name) for name in names})
    return feed


def test_the_first_answer_has_all_runs_in_order():
    answer = filled("a", "b").answer(None)
    assert (answer["runs"], answer["whole"], answer["total"]) == ([run("a"), run("b")], True, 2)


def test_a_first_page_has_no_version_so_that_the_rest_is_asked_for():
    answer = filled("a", "b", "c").answer(None, 2)
    assert ([each["id"] for each in answer["runs"]], answer["version"], answer["total"]) == (["a", "b"], None, 3)
    assert filled("a").answer(None, 2)["version"] is not None


def test_later_answers_have_only_changes():
    feed = filled("a", "b")
    version = feed.answer(None)["version"]
    feed.update({"a": run("a"), "b": run("b")})
    assert feed.answer(version)["runs"] == []
    assert feed.answer(version)["version"] == version
    feed.update({"c": run("c"), "a": run("a", star=True)})
    answer = feed.answer(version)
    assert (answer["runs"], answer["removed"], answer["whole"]) == ([run("c"), run("a", star=True)], ["b"], False)
    feed.update({"c": run("c"), "a": run("a", star=True), "b": run("b")})
    answer = feed.answer(version)
    assert [each["id"] for each in answer["runs"]] == ["c", "a", "b"]
    assert answer["removed"] == [], "a run that is back is not removed"


@pytest.mark.parametrize("since", ["", "x", "0-0", "{epoch}-9", "{epoch}--1", "{epoch}-", "{epoch}-" + "9" * 5000])
def test_an_unknown_version_gets_the_whole_list(since):
    feed = filled("a")
    epoch = feed.answer(None)["version"].partition("-")[0]
    assert feed.answer(since.format(epoch=epoch))["whole"]


def test_a_browser_that_missed_very_many_removals_gets_the_whole_list():
    names = [str(i) for i in range(MAX_REMEMBERED + 2)]
    feed = filled(*names)
    version = feed.answer(None)["version"]
    feed.update({name: run(name) for name in names[1:]})
    feed.update({name: run(name) for name in names[MAX_REMEMBERED:]})
    assert len(feed.answer(version)["removed"]) == MAX_REMEMBERED
    feed.update({})
    assert feed.answer(version)["whole"]
