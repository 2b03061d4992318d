"""A merchant's Shopify shop, behind `pipeline.ports.Shop`.

what we say      operations: one GraphQL document each, validated against the published contract
how it is said   client: one request, one deadline; envelope: an answer's three layers, turned into one outcome
how fast         points: the arithmetic of the shared bucket; price: what a request costs; budget: this process' share
whether at all   circuit: a shop that fails or is parked; limits: what replicas agree on (alone: for one process)
by what right    tokens, oauth: how a token is got again; scopes: what is lost without one
what it means    products, bulk, stock, transfers, media, and shop: the port over all of them
what it tells    webhooks: read and believed only if signed; subscriptions: asked for once
"""
