"""Queues in npm bull's storage: wire-compatible with Bull 4.16.5, crash-safe where it is not.

A job's way, and who moves it:

    enqueue -> waiting --claim--> active --finish--> completed   (and its successor is enqueued, the next claimed)
               ^   ^                |----retry-----> delayed or waiting      a counted failure
               |   |                |----snooze----> delayed                 nothing counted
               |   +----release-----|                                        nothing counted
               |                    |----fail------> failed                  waits for a person: replay
               +--sweep: due, or active without a lease at two checks

`bull` has the verbs, one script in `lua/` each; `keys` and `wire` spell Redis; `job` and `lease` are what callers
hold; `repeat` and `cron` say when a repeatable job runs next. Three roles run beside the work and do not know each
other: `heartbeat` renews, `sweeper` sweeps, `notifier` listens. Knows nothing of stages, orders or Redis drivers.
"""
