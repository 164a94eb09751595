"""Pictures of what a network looks at: the maps of the papers, reconstructions, and nearest neighbours.

cli             the commands `veval look ...`
asked           what a command is asked for, and what it refuses before torch is imported
trained         a method's network with its heads, from a run or from the authors' weights
clips           the clips that a network gets, and the pixels that it sees
maps            the arithmetic of the maps
roi  attention  activation  reconstruction  neighbours     a figure for each command
figure          a figure: rows of tiles
shading         a map over a frame
drawing         a figure as pixels
colour  lettering
save            a figure as a file, or in a page
"""
