"""The operations console: a web page over the refunds and complaints in Postgres."""
