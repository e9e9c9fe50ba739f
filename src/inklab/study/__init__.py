"""Studies: a question as data, its plan, its run folder, and what comes out."""
