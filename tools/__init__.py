"""What `make check` asks besides linters and types: known vulnerabilities, and secrets in the source."""
