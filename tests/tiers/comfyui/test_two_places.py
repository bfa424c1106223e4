"""Two nodes with equal inputs: each shows its own runs."""

import json


def moved(graph, old: str, new: str):
    """The same graph with the node `old` under the id `new`."""
    return json.loads(json.dumps(graph).replace(f'"{old}":', f'"{new}":').replace(f'["{old}", ', f'["{new}", '))


def test_a_node_equal_to_a_cached_node_shows_its_own_runs(server, wire):
    graphs = [wire(preview={}), moved(wire(preview={}), "2", "9")]
    nodes = [{event.data["node"] for event in server.play(graph).named("safelight.run")} for graph in graphs]
    assert nodes == [{"2"}, {"9"}]


def test_cleared_workflows_with_ids_of_ours_have_their_own_runs(server, wire):
    empty = "00000000-0000-0000-0000-000000000000"  # the id of a graph after Clear Workflow
    for given in ("cleared one", "cleared two"):
        workflow = {"id": empty, "nodes": [], "extra": {"safelight_workflow": given}}
        played = server.play(wire(preview={}), workflow=workflow)
        assert {event.data["workflow"] for event in played.named("safelight.run")} == {given}
        assert len(server.get(f"/safelight/runs?workflow={given.replace(' ', '%20')}&node=2").json()) == 1
    for extra in (None, "text", {"safelight_workflow": 7}):
        played = server.play(wire(preview={}), workflow={"id": empty, "nodes": [], "extra": extra})
        assert played.ends == ["execution_success"]
