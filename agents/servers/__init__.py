"""Model servers over HTTP: the client, the handover of weights, the judge."""
