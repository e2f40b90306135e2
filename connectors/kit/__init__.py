"""What every connector shares: the manifest, the protocol, HTTP, signing, rate budgets, sandbox frame."""
