"""Two nodes with equal inputs: each shows its own runs."""

import json


def moved(graph, old: str, new: str):
    """The same graph with the node `old` under the id `new`."""
    return json.loads(json.dumps(graph).replace(f'"{old}":', f'"{new}":').replace(f'["{old}", ', f'["{new}", '))


def test_a_node_equal_to_a_cached_node_shows_its_own_runs(server, wire):
    graphs = [wire(preview={}), moved(wire(preview={}), "2", "9")]
    nodes = [{event.data["node"] for event in server.play(graph).named("safelight.run")} for graph in graphs]
    assert nodes == [{"2"}, {"9"}]
