"""The contract as others read it: linters, and a client that tries everything it describes."""
