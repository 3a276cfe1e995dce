"""What people read: progress, tables and JSON, drawn from the stages' dataclasses."""
