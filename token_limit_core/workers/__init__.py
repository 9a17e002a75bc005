"""Propagate the tenant to task queues (`celery`, `rq`, `dramatiq`), and to threads and event loops (`threads`).

Each module imports its library, so import only the modules that you use.
"""
