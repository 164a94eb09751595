"""The classes of `vprep synth`: a shape, and how it moves."""

CLASSES = {
    "SquareSlidesRight": ("Square", "slides right"),
    "DiscFalls": ("Disc", "falls"),
    "StarSpins": ("Star", "spins"),
    "RingGrows": ("Ring", "grows"),
    "BarSwings": ("Bar", "swings"),
    "DotsScatter": ("Disc", "scatters"),
    "TriangleBounces": ("Triangle", "bounces"),
    "CrossCircles": ("Cross", "circles"),
    "DiscSlidesRight": ("Disc", "slides right"),
    "StarFalls": ("Star", "falls"),
    "BarSpins": ("Bar", "spins"),
    "TriangleGrows": ("Triangle", "grows"),
    "RingSwings": ("Ring", "swings"),
    "CrossesScatter": ("Cross", "scatters"),
    "SquareBounces": ("Square", "bounces"),
    "BarCircles": ("Bar", "circles"),
}
