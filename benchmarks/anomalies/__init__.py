"""How well each statistic of a score tells unusual images from normal ones."""
