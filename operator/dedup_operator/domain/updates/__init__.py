"""How existing objects must change: pure functions from an object
as it was read to the object that the operator writes back."""
