"""Archives and files become arrays: the ground floor, which knows no paper."""
