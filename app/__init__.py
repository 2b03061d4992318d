"""What we plug in: connections, tables, vendors, pages. The only place that knows where anything is."""
