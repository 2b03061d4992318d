"""A merchant's Shopify shop, behind `pipeline.ports.Shop`.

operations   what we say: one GraphQL document per operation, each validated against the published contract
throttle     how fast: the shop's points bucket, as the shop last reported it
client       how it is said: one request, one deadline, and a vendor's answer turned into our errors
products     what it means for products: found, created once, given the variants they lack
bulk         the same for many products at once
stock        what it means for quantities
transfers    what it means for transfers and shipments
shop         what it means for everything else: the port, in terms of the operations
"""
