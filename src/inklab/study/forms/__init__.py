"""What a run folder's files must look like before anything believes them: one file for each kind."""
