"""The process we run in: threads off the event loop, forks, ids, throttled logging. Knows nothing of metering."""
