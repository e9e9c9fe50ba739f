"""Every record that is written to disk or handed to a user: one typed, validated class each."""
