"""What people read: listings of plans, drawings, comparisons, reports of finished invocations."""
