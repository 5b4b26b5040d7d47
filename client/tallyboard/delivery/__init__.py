"""The sender: what was collected becomes batches, goes to the service, and its answers are acted upon."""
