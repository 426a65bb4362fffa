"""Files that people write: checked, frozen values, every error with its line."""
