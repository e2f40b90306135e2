"""The two Faust drivers: both hand an agent whole batches instead of single records."""
