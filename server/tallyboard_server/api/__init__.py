"""The HTTP side: what comes in over the network, who may send it, and how every answer and error looks."""
