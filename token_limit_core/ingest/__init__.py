"""Ingest: the other side of the wire. Services report their events here, ask whether a tenant may go on, set limits.

keys       who may speak: hashed API keys, each confined to tenants and permissions
body       what they sent: bounded, unpacked, parsed
events     one event of a batch: valid, or refused with a reason
endpoints  the three calls of the wire contract over any store (SPEC 1.5)
"""
