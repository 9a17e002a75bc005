"""Delivery of events to a remote backend: queue, buffers, wire and the store that lives there."""
