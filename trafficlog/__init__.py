"""trafficlog: a telecom traffic-log store with legal retention, on PostgreSQL."""

__version__ = "0.1.0"
