"""A shop and a model that speak real HTTP, so that the demo and the tests need no vendor.

The sandbox stands outside: it knows the vendors' documented behaviour and imports nothing of the product.
Where a vendor's behaviour is not known it takes the stricter reading and says so on that line.
"""
