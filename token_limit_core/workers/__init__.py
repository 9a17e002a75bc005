"""The tenant follows the work: to task queues (`celery`, `rq`, `dramatiq`) and to threads and loops (`threads`).

Each module imports the library it is for; import only those that are used.
"""
