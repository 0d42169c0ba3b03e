"""Who asks and whether a browser may: what comes before every write, whatever it writes."""
