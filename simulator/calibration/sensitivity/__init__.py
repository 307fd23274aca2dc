"""How much each site's precision matters: published scores, what quantizing it alone costs, and how well they agree."""
