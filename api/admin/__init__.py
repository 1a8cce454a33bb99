"""For administrators and supervisors: everybody's jobs, the fleet, views and queues, metrics, health."""
