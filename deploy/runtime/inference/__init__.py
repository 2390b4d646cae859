"""One inference request from arrival to response, whatever carried it, and its trace."""
