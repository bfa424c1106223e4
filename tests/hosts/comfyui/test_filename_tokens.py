"""Tokens are replaced as ComfyUI's page replaces them for ComfyUI's own nodes."""

from datetime import datetime

import pytest
from safelight.hosts.comfyui.filename_tokens import expand

NOW = datetime(2026, 3, 7, 5, 9, 2)
GRAPH = {
    "4": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 42,
            "cfg": 1.5,
            "sampler_name": "euler",
            "steps": ["9", 0],
            "add": True,
            "up": "..",
            "to": 1,
        },
        "_meta": {"title": "Second pass"},
    },
    "5": {"class_type": "KSampler", "inputs": {"seed": 43, "title": "a/b:c\\d*\n"}},
    "6:2": {"class_type": "Text", "inputs": {"text": ""}, "_meta": {"title": "Words"}},
}
WORKFLOW = {
    "nodes": [
        {"id": 4, "title": "First", "properties": {}},
        {"id": 5, "title": "KSampler", "properties": {"Node name for S&R": "main"}},
        None,
    ]
}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("plain/name", "plain/name"),
        ("%date:yyyy-MM-dd%/%date:hhmmss%", "2026-03-07/050902"),
        ("%date:yy.M.d h_m_s%", "26.3.7 5_9_2"),
        ("%date:yyy of%", "yyy of"),
        ("%KSampler.seed%_%KSampler.cfg%_%KSampler.sampler_name%", "42_1.5_euler"),
        ("%KSampler.add%", "true"),
        ("%Second pass.seed%", "42"),
        ("%main.seed%", "43"),
        ("%First.seed%", "42"),
        ("%main.title%", "a_b_c_d__"),
        ("x%Words.text%x", "xx"),
        ("%KSampler.up%/a", "__/a"),
    ],
)
def test_a_token_is_replaced(prefix, expected):
    assert expand(prefix, GRAPH, WORKFLOW, NOW) == expected


@pytest.mark.parametrize(
    "prefix",
    [
        "%width%x%height%",
        "%year%",
        "%Nobody.seed%",
        "%KSampler.nothing%",
        "%KSampler.steps%",
        "%a.b.c%",
        "50% and",
        "%%",
    ],
)
def test_an_unknown_token_stays(prefix):
    assert expand(prefix, GRAPH, WORKFLOW, NOW) == prefix


def test_without_a_prompt_the_date_is_replaced():
    assert expand("%date:yyyy%_%KSampler.seed%", {}, None, NOW) == "2026_%KSampler.seed%"


@pytest.mark.parametrize(
    "workflow", ["text", ["list"], 7, {"nodes": "text"}, {"nodes": {"4": {}}}, {"nodes": [7, "a"]}]
)
def test_a_workflow_of_any_form_has_no_names(workflow):
    assert expand("%KSampler.seed%_%Nobody.seed%", GRAPH, workflow, NOW) == "42_%Nobody.seed%"


@pytest.mark.parametrize("value", [["list"], "text", 7, None])
def test_properties_and_meta_of_any_form_have_no_names(value):
    workflow = {"nodes": [{"id": 4, "title": value, "properties": value}]}
    graph = {"4": {**GRAPH["4"], "_meta": value}}
    assert expand("%KSampler.seed%_%Nobody.seed%", graph, workflow, NOW) == "42_%Nobody.seed%"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("%Text.text%", "_a___"),
        ("x/%Text.text%/y", "x/_a___/y"),
        ("%Text.text% x", "_a .. x"),
        ("x %Text.text%", "x .a___"),
    ],
)
def test_a_value_makes_no_part_hidden_and_none_that_windows_cannot_hold(prefix, expected):
    graph = {"1": {"class_type": "Text", "inputs": {"text": ".a .."}}}
    assert expand(prefix, graph, None, NOW) == expected
