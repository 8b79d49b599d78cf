"""Our service beside what a user would pick instead: the same weights, the same pictures, the same client.

Read it in this order: `cases` (what is asked), `servers` (who is asked, in which setting), `rounds` (in which order),
`load` (the client), `checks` (what a right answer is), `targets` (what we promised), `report` (what is written down).
"""
