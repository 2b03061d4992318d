"""What stages 9 and 11 do in a shop: products, stock, pictures. Vendor-neutral, and only through the ledger."""
