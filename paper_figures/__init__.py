"""The paper's tables and figures, drawn and judged from the records in `results/` alone."""
