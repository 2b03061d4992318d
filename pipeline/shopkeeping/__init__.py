"""What stage 9 does in a shop, by subject: products, stock. Vendor-neutral, and only through the ledger."""
