"""Delivery of events to a remote backend: queue, buffers, wire, and the store whose limits live at that backend."""
