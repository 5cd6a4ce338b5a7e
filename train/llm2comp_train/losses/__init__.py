"""One pure module per objective: formula, shapes, source."""
