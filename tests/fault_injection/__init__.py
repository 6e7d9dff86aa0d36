"""The operator against a real API server whose node is played, with a proxy in between that makes mistakes.

What is tested is what the operator writes while it is killed and lied to; there are hundreds of such runs, so nothing in them may
take longer than the API server and its controllers need. Hence a control plane of its own (`control_plane`) without node and images,
a node that is played (`node`, `drivers`), operators that are forked (`operators`) and a proxy per operator (`proxy`).

Other tests that need the API server and its controllers but no real pods take the fixture `plane`, see `fault_injection.harness.Plane`, and
`test_plane.py` for an example.
"""
