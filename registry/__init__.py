"""The HTTP API of the registry, who may use it, and the deployment of what is pushed."""
