"""A shop and a model that speak real HTTP, so that the demo and the tests need no vendor.

The sandbox stands outside: it knows the vendors' documented behaviour and imports nothing of the product.
Where a vendor's behaviour is not known it takes the stricter reading and says so on that line.

    GET  /                                              a page for people: what stands in the shops
    POST /shops                                         open a shop, or change its token, scopes, settings
    POST /shops/{domain}/admin/api/{version}/graphql.json   the Admin API; X-Shopify-Access-Token
    GET  /shops/{domain}/state                          everything the shop holds, for tests and tables
    POST /shops/{domain}/faults                         what goes wrong with the next calls
    POST /uploads/{domain}/   PUT /uploads/{domain}/{key}   staged upload targets
    GET  /files/{sha256}                                an uploaded image
    POST /v1/responses   GET /v1/models                 the model; Authorization: Bearer
    POST /model/answers  GET /model/state               what the model will say, and what it was asked
    GET  /images/{name}.jpg                             product photos; not-an-image, missing, huge, slow,
                                                        bomb and inward are hostile

From a program: `async with run_sandbox(...) as address` (`server.py`). As a process: `python -m app.sandbox`.
One request, in order: `shop.py` (who, faults) -> `gateway.py` (no before yes) -> `schema.py` (which resolver)
-> reading: `reads.py`, `fields.py`; writing: `products.py`, `variants.py`, `inventory.py`, `metafields.py`,
`media.py` -> `store.py` (kept, then answered).
"""
