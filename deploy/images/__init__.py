"""A bundle becomes an image: base, wheels, build, signature and bill of materials."""
