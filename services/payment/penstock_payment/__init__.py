"""The worker of the payment queue: charges through a provider over HTTP."""
