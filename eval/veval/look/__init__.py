"""Pictures of what a network looks at: the maps of the papers, reconstructions, and nearest neighbours.

cli  options     the commands `veval look ...`
asked  target    what a command is asked for, and what it refuses before torch is imported
trained         a method's network with its heads, from a run or from the authors' weights
clips           the clips that a network gets, and the pixels that it sees
maps            the arithmetic of the maps
roi  attention  activation  reconstruction  neighbours     a figure for each command
figure          a figure: rows of tiles
drawn           how maps are drawn, and the sentences that say so
shading         a map over a frame
layout  drawing   a figure as pixels, in its colours (colour) and letters (lettering)
save            a figure as a file, or in a page
"""
