"""What a store costs that is large: pages, starts, and graphs made to be slow."""
