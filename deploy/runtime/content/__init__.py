"""What a message carries, before any protocol reads it: its coding, its kind, the files of a form."""
