"""The deployment engine: what the tags say, made to run.

spin, locked, triggers    is this manifest a Spin application, what is in it, can it run here
apps, rollout             the values, and the one table of phases
journal, ledger, tables   apps, revisions and events as rows; lease: who acts on them
intake                    moves of tags become revisions
reconciler                keeps a steward for every app; steward, walk, residence do the work
artifact, staging, archive, site    from blobs to a directory that a runtime can start
runtimes                  what runs it
health                    is it up, and is it the digest that was pushed
routes, gateway           which instance answers a host; forwarding, exchange: how
api, openapi, schemas, change, output    the same told to people, as JSON
"""
