"""Our service beside the servers that a user might choose instead, with the same weights, pictures and client.

Read the modules in this order: `cases` (the requests), `servers` (ours and the peers, with settings), `rounds` (the
order), `load` (the client), `checks` (whether an answer is right), `targets` (what we promised), `report` (the tables).
"""
