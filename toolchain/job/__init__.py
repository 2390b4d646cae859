"""One build's request and cache: the recipe as read, the precisions it asks for, stages kept by digest."""
