"""`make demo`: a year of flights through a real DedupJob, with duplicates as they arise in life, checked record by record."""
