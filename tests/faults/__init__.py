"""The proof of delivery: a driver is killed again and again, and then its whole output is compared with the plan of
what went in."""
