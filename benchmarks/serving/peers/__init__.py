"""The peers: each folder holds a server as its documentation would write it, and the versions it runs with.

They share `network` and `pictures`, so that what differs is the serving alone.
"""
