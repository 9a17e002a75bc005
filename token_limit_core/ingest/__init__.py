"""Ingest: the server side of the wire protocol. Services report events, check limits and set limits.

keys       authentication: hashed API keys, each restricted to tenants and permissions
body       request bodies: size limits, gzip, JSON
events     validation of one event of a batch; an invalid one is rejected with a reason
endpoints  the three endpoints of the protocol, over any store
"""
