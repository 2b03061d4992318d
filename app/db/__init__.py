"""Postgres: the truth. Short transactions, no network and no matching inside them."""
