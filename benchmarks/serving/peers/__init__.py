"""The peers: each folder has a server as its documentation would write it, and the versions that it runs with.

They share `network` and `pictures`, so that only the serving differs.
"""
