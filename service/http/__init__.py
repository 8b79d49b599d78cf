"""HTTP as every protocol needs it: access, keys, deadlines, health, errors. It knows no operation."""
